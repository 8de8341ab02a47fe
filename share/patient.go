package share

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// patient waits as long as a registry asks to, before whoever sent the request
// tries again.
type patient struct{ http.RoundTripper }

const maxPatience = time.Minute

func (p patient) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(req)
	if err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		wait(req.Context(), retryAfter(resp))
	}
	return resp, err
}

// retryAfter returns how many seconds a registry asks for. Registries send no
// dates.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 3600))*time.Second, maxPatience)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
