package layout

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SetIndexAside moves an index.json that [Layout.Load] could not read into
// quarantine, so that it counts as lost, and returns its new path. If it has
// become another one since, it is left alone, and the path is "".
func (l *Layout) SetIndexAside() (path string, err error) {
	err = l.exclusive(context.Background(), func() error {
		if now := l.fileID(ocispec.ImageIndexFile); now.info == nil || !l.isBroken(now) {
			return nil
		}
		name := quarantineDir + "/" + ocispec.ImageIndexFile + "-" + random()
		if err := l.root.rename(ocispec.ImageIndexFile, name); err != nil {
			return fmt.Errorf("set %s aside: %w", l.path(ocispec.ImageIndexFile), err)
		}
		l.stamp(name)
		path = l.path(name)
		return nil
	})
	return path, err
}
