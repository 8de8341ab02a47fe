//go:build !linux && !darwin && !windows

package layout

// Network cannot tell here what file system the layout is on, and returns "".
func (l *Layout) Network() string { return "" }
