package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A lease is what this process holds: a file with a digest a line, in
// leaseDir, and a lock file beside it, locked for as long as the process
// holds anything. Leases are read and written under the writers' lock.
type lease struct {
	name  string
	lock  *flock.Flock
	holds map[v1.Hash]int // how often
}

// Hold keeps the blob of h from being removed by any process, until it is
// let go as often, or this process ends. It is for a blob that is there.
func (tx *Tx) Hold(h v1.Hash) error { return tx.l.hold(h, 1) }

// LetGo undoes one Hold.
func (tx *Tx) LetGo(h v1.Hash) error { return tx.l.hold(h, -1) }

func (l *Layout) hold(h v1.Hash, n int) error {
	if l.lease == nil {
		name, lock, err := l.lockNew(l.leases)
		if err != nil {
			return err
		}
		l.lease = &lease{name: name, lock: lock, holds: map[v1.Hash]int{}}
	}
	holds := l.lease.holds
	holds[h] += n
	err := l.writeLease()
	if err != nil && n > 0 {
		holds[h] -= n
	}
	if holds[h] <= 0 {
		delete(holds, h)
	}
	if len(holds) == 0 {
		err = errors.Join(err, l.endLease())
	}
	return err
}

// writeLease replaces the file as a whole: what it held before, it holds until
// then. Nothing is synced, since no lease outlives its process. The writers'
// lock keeps the new file from being swept.
func (l *Layout) writeLease() error {
	var b bytes.Buffer
	for h, n := range l.lease.holds {
		if n > 0 {
			fmt.Fprintln(&b, h)
		}
	}
	tmp := stateDir + "/new-lease-" + random()
	f, err := l.root.open(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Close())
	if err == nil {
		err = l.root.rename(tmp, l.leases.name+"/"+l.lease.name)
	}
	if err != nil {
		_ = l.root.remove(tmp)
	}
	return err
}

// endLease removes this process's lease.
func (l *Layout) endLease() error {
	if l.lease == nil {
		return nil
	}
	err := l.leases.remove(l.lease.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, unlock(l.lease.lock, l.leases, l.lease.name))
	l.lease = nil
	return err
}

// Held returns the blobs that processes hold which are alive, this one
// included. Leases of others are removed.
func (tx *Tx) Held() (map[v1.Hash]bool, error) {
	l := tx.l
	held := map[v1.Hash]bool{}
	if l.lease != nil {
		for h := range maps.Keys(l.lease.holds) {
			held[h] = true
		}
	}
	names, err := l.leases.list(".", -1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		name := strings.TrimSuffix(name, lockSuffix)
		if slices.Contains(names, name) && !l.sweepFile(l.leases, name) {
			if err := l.readLease(name, held); err != nil {
				return nil, err
			}
		}
	}
	return held, nil
}

// maxLease bounds what is read of a lease, in bytes: more than a program
// would hold.
const maxLease = 64 << 20

func (l *Layout) readLease(name string, held map[v1.Hash]bool) error {
	f, err := openRegular(l.leases, name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLease))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if h, err := v1.NewHash(strings.TrimSpace(line)); err == nil {
			held[h] = true
		}
	}
	return nil
}
