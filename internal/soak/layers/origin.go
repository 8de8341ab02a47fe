package layers

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A Fault is what is wrong with an origin.
type Fault string

// The faults. What an origin gives before it fails is right: what readers of
// one fill were given wrong could not be taken back from the others.
const (
	Sound    Fault = ""
	FailOpen Fault = "fails at opening"
	FailRead Fault = "fails in the middle"
	Short    Fault = "ends too early"
	Stall    Fault = "stalls in the middle" // until it is closed, or fails after a while
)

// Faults returns those that an origin of the layer can have. One that is
// TarOnly cannot be Short: go-containerregistry would compress what there is,
// and that is a sound layer, of another diffID than it says.
func (l Layer) Faults() []Fault {
	if l.Kind == TarOnly {
		return []Fault{FailOpen, FailRead, Stall}
	}
	return []Fault{FailOpen, FailRead, Stall, Short}
}

// ErrInjected is what a faulty origin fails with, unless it is Short.
var ErrInjected = errors.New("injected error of an origin")

const stall = 1500 * time.Millisecond

// Origin returns the layer as a registry would have it.
func (l Layer) Origin(f Fault) v1.Layer {
	if l.Kind != TarOnly {
		return blobOrigin{l, f}
	}
	origin, err := partial.UncompressedToLayer(tarOrigin{l, f})
	must(err)
	return origin
}

type blobOrigin struct {
	l Layer
	f Fault
}

func (o blobOrigin) Digest() (v1.Hash, error)             { return o.l.Digest, nil }
func (o blobOrigin) DiffID() (v1.Hash, error)             { return o.l.DiffID, nil }
func (o blobOrigin) Size() (int64, error)                 { return o.l.Size, nil }
func (o blobOrigin) MediaType() (types.MediaType, error)  { return o.l.MediaType, nil }
func (o blobOrigin) Compressed() (io.ReadCloser, error)   { return o.f.open(o.l.Blob) }
func (o blobOrigin) Uncompressed() (io.ReadCloser, error) { return nil, errDecompress }

var errDecompress = errors.New("the cache is to decompress by itself")

type tarOrigin struct {
	l Layer
	f Fault
}

func (o tarOrigin) DiffID() (v1.Hash, error)             { return o.l.DiffID, nil }
func (o tarOrigin) MediaType() (types.MediaType, error)  { return o.l.MediaType, nil }
func (o tarOrigin) Uncompressed() (io.ReadCloser, error) { return o.f.open(o.l.Tar) }

func (f Fault) open(content func() []byte) (io.ReadCloser, error) {
	if f == FailOpen {
		return nil, ErrInjected
	}
	b := content()
	if f != Sound {
		b = b[:len(b)/2]
	}
	return &reader{b: bytes.NewReader(b), f: f, closed: make(chan struct{})}, nil
}

// A reader reads what an origin has, up to its fault.
type reader struct {
	b      *bytes.Reader
	f      Fault
	once   sync.Once
	closed chan struct{}
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.b.Read(p)
	if err != io.EOF {
		return n, err
	}
	switch r.f {
	case Stall:
		select {
		case <-r.closed:
		case <-time.After(stall):
		}
		return 0, ErrInjected
	case FailRead:
		return 0, ErrInjected
	}
	return 0, io.EOF
}

func (r *reader) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}
