// Package layout keeps a directory as an OCI image layout that several
// processes write to at once: its blobs, its index.json, and beside them, in
// .ocicache, a journal of what changed since index.json was last written.
//
// It never reads annotations: what stands in the index and in the journal's
// records is its caller's.
package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// ErrNotLayout is returned by [Open] for a path that is something else.
	ErrNotLayout = errors.New("not an OCI image layout")
	// ErrVersion is returned by [Open] for a layout, and by [Layout.Load] for
	// a journal beside it, of a version that this package does not know.
	ErrVersion = errors.New("unsupported version")
	// ErrReadOnly is returned by whatever would write to a read-only layout.
	ErrReadOnly = errors.New("read-only")
	// ErrTooLarge is returned by [Layout.Load] for an index.json that nobody
	// would write.
	ErrTooLarge = errors.New("too large")
	// ErrLocked is returned when a lock was not to be had in time. The error
	// names the lock file.
	ErrLocked = errors.New("locked by another process")
)

// version is of what stands in .ocicache.
const version = "1\n"

const (
	stateDir      = ".ocicache"
	versionFile   = stateDir + "/version"
	journalFile   = stateDir + "/journal"
	oldJournal    = stateDir + "/journal.old"
	lockFile      = stateDir + "/lock"
	checkpointing = stateDir + "/checkpoint.lock"
	ingestDir     = stateDir + "/ingest"
	trashDir      = stateDir + "/trash"
	quarantineDir = stateDir + "/quarantine"
	leaseDir      = stateDir + "/leases"
	keyDir        = stateDir + "/keys"
)

// Options of [Open]. The zero value opens for writing.
type Options struct {
	// ReadOnly takes no lock and writes nothing. The layout may be on a
	// read-only file system.
	ReadOnly bool
	// LockTimeout bounds the wait for another process's lock; 0 means ten
	// seconds.
	LockTimeout time.Duration
	// Hook is called before each operation on the file system, unless it is
	// nil.
	Hook Hook
}

// A Layout is an open directory. It is safe for concurrent use, and other
// processes may have the same directory open.
//
// The lock order is: checkpoint and its lock file, writer and its lock file,
// log.mu, and then what the replica locks.
type Layout struct {
	dir      string
	root     *folder
	readOnly bool
	timeout  time.Duration

	algs map[string]*algorithm // by name, fixed

	ingests *folder // ingestDir, opened once; nil if the layout is read-only
	leases  *folder // leaseDir, likewise
	keys    *folder // keyDir, likewise
	lease   *lease  // used under the writers' lock; nil while this process holds nothing

	closed     atomic.Bool
	checkpoint chan struct{} // held by this process's one checkpoint
	writer     chan struct{} // held by this process's one writer

	log log
}

// An algorithm is one directory below blobs. It is opened once it is there.
type algorithm struct {
	hexLen int

	mu   sync.Mutex
	root *folder // guarded by mu; nil until the directory exists
}

// Open opens dir, and creates it, and the layout in it, if need be. A path
// that is not a directory, or that holds other things and no oci-layout
// file, is [ErrNotLayout] and left as it is. Read-only opening creates
// nothing.
func Open(dir string, opts Options) (*Layout, error) {
	dir, err := filepath.Abs(dir) // locks are opened by path, whatever the working directory is by then
	if err != nil {
		return nil, err
	}
	if !opts.ReadOnly {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			if fi, serr := os.Stat(dir); serr == nil && !fi.IsDir() {
				return nil, fmt.Errorf("open %s: %w: it is not a directory", dir, ErrNotLayout)
			}
			return nil, fmt.Errorf("open %s: %w", dir, err)
		}
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("open %s: %w: it is not a directory", dir, ErrNotLayout)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	l := &Layout{
		dir:        dir,
		root:       &folder{root: root, hook: opts.Hook},
		readOnly:   opts.ReadOnly,
		timeout:    opts.LockTimeout,
		algs:       map[string]*algorithm{"sha256": {hexLen: 64}, "sha512": {hexLen: 128}},
		checkpoint: make(chan struct{}, 1),
		writer:     make(chan struct{}, 1),
	}
	if l.timeout == 0 {
		l.timeout = 10 * time.Second
	}
	if err := l.prepare(); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return l, nil
}

// prepare checks that the directory is a layout that we may use, or makes it
// one.
func (l *Layout) prepare() error {
	isLayout, err := l.check()
	if err != nil || l.readOnly {
		return err
	}
	for _, dir := range []string{stateDir, ingestDir, trashDir, quarantineDir, leaseDir, keyDir} {
		if err := l.root.mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if l.ingests, err = l.root.openFolder(ingestDir); err != nil {
		return err
	}
	if l.leases, err = l.root.openFolder(leaseDir); err != nil {
		return err
	}
	if l.keys, err = l.root.openFolder(keyDir); err != nil {
		return err
	}
	isOurs, err := l.exists(versionFile)
	if err != nil {
		return err
	}
	if isLayout && isOurs {
		l.Sweep()
		return nil
	}
	return l.exclusive(context.Background(), l.create)
}

// check reports whether there is a layout, and refuses what is none, or is
// of an unknown version.
func (l *Layout) check() (bool, error) {
	if b, err := l.readSmall(versionFile); err == nil {
		if string(b) != version {
			return false, fmt.Errorf("%w: %s says %.40q, this program knows %q", ErrVersion, versionFile, b, version)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}

	b, err := l.readSmall(ocispec.ImageLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, l.checkEmpty()
	}
	if err != nil {
		return false, err
	}
	var il ocispec.ImageLayout
	if err := json.Unmarshal(b, &il); err != nil {
		return false, fmt.Errorf("%w: %s: %w", ErrNotLayout, ocispec.ImageLayoutFile, err)
	}
	if il.Version != ocispec.ImageLayoutVersion {
		return false, fmt.Errorf("%w: imageLayoutVersion %.40q, want %q", ErrVersion, il.Version, ocispec.ImageLayoutVersion)
	}
	return true, nil
}

// checkEmpty refuses a directory without an oci-layout file, unless it is
// empty or a create of ours was cut short in it.
func (l *Layout) checkEmpty() error {
	if l.readOnly {
		return fmt.Errorf("%w: it has no %s file", ErrNotLayout, ocispec.ImageLayoutFile)
	}
	names, err := l.root.list(".", 2)
	if err != nil {
		return err
	}
	for _, name := range names {
		// The version comes first in a create: it is looked for after what
		// another process may be creating now.
		if name == stateDir {
			continue
		}
		if isOurs, err := l.exists(versionFile); err != nil {
			return err
		} else if !isOurs {
			return fmt.Errorf("%w: it has no %s file and holds other things, %q among them", ErrNotLayout, ocispec.ImageLayoutFile, name)
		}
	}
	return nil
}

// create makes what is missing. Files that are there stay: another process
// may have created the layout meanwhile, and used it. oci-layout comes last,
// and makes the directory a layout.
func (l *Layout) create() error {
	if err := l.writeFile(versionFile, []byte(version)); err != nil {
		return err
	}
	if err := l.root.mkdir(filepath.Join(ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return err
	}
	empty := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + "\n]}\n"
	if err := l.writeNew(ocispec.ImageIndexFile, []byte(empty)); err != nil {
		return err
	}
	il := `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}` + "\n"
	if err := l.writeNew(ocispec.ImageLayoutFile, []byte(il)); err != nil {
		return err
	}
	return l.syncDirs(ocispec.ImageBlobsDir, stateDir, ".")
}

// Dir returns the directory's absolute path.
func (l *Layout) Dir() string { return l.dir }

// ReadOnly reports whether the layout was opened to be read only.
func (l *Layout) ReadOnly() bool { return l.readOnly }

// Close releases what the layout holds open, once the update and the
// checkpoint under way have ended; later ones fail. Blobs and ingests that
// callers hold open stay theirs to close.
func (l *Layout) Close() error {
	l.checkpoint <- struct{}{}
	defer func() { <-l.checkpoint }()
	l.writer <- struct{}{}
	defer func() { <-l.writer }()
	l.closed.Store(true)
	l.log.close()
	for _, alg := range l.algs {
		alg.close()
	}
	return errors.Join(l.endLease(), l.ingests.close(), l.leases.close(), l.keys.close(), l.root.close())
}

// path returns the file system path of a file of ours, for flock.
func (l *Layout) path(name string) string { return filepath.Join(l.dir, filepath.FromSlash(name)) }

// Valid reports whether h can name a blob here: sha256 or sha512, in lower
// case. Nothing else becomes a path.
func (l *Layout) Valid(h v1.Hash) bool {
	alg, ok := l.algs[h.Algorithm]
	if !ok || len(h.Hex) != alg.hexLen {
		return false
	}
	for _, c := range []byte(h.Hex) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
