package cache

import (
	"errors"
	"io/fs"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/layout"
)

// A syncer brings committed blobs to stable storage beside the fills. A
// checkpoint syncs them all the same; it then finds little left to do. But a
// system tells of a failed write-back only once, so the syncer keeps what it
// was told.
type syncer struct {
	layout  *layout.Layout
	tell    func(v1.Hash, error) // is told of each blob whose sync fails
	one     sync.Mutex           // held by the sync under way, until its result is noted
	wake    chan struct{}
	stopped chan struct{}

	mu     sync.Mutex
	queue  []v1.Hash            // guarded by mu, as is all below
	failed map[v1.Hash]struct{} // blobs whose sync failed since they were committed
	over   bool
}

func startSyncer(l *layout.Layout, level SyncLevel, tell func(v1.Hash, error)) *syncer {
	s := &syncer{layout: l, tell: tell, failed: map[v1.Hash]struct{}{}, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	if l.ReadOnly() || level != SyncCheckpoint {
		s.over = true
		close(s.stopped)
		return s
	}
	go s.run()
	return s
}

// add queues a blob that was committed.
func (s *syncer) add(h v1.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.queue = append(s.queue, h)
	delete(s.failed, h)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *syncer) run() {
	defer close(s.stopped)
	for range s.wake {
		for h, ok := s.next(); ok; h, ok = s.next() {
			_ = s.sync(h) // the checkpoint asks again
		}
	}
}

// sync syncs a blob, and fails for good once it failed.
func (s *syncer) sync(h v1.Hash) error {
	err := s.syncOnce(h)
	if err != nil && !errors.Is(err, errSync) && !errors.Is(err, fs.ErrNotExist) {
		s.tell(h, err)
	}
	return err
}

func (s *syncer) syncOnce(h v1.Hash) error {
	s.one.Lock()
	defer s.one.Unlock()
	if s.hasFailed(h) {
		return errSync
	}
	err := s.layout.SyncBlob(h)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed[h] = struct{}{}
	}
	return err
}

func (s *syncer) hasFailed(h v1.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, failed := s.failed[h]
	return failed
}

func (s *syncer) next() (h v1.Hash, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || s.over {
		return v1.Hash{}, false
	}
	h, s.queue = s.queue[0], s.queue[1:]
	return h, true
}

func (s *syncer) close() {
	s.mu.Lock()
	if !s.over {
		s.over = true
		close(s.wake)
	}
	s.mu.Unlock()
	<-s.stopped
}

// syncAll syncs what the snapshot lists as not yet synced, whichever process
// wrote it, and marks it so. What an earlier boot left unsynced stays marked:
// a sync now proves nothing. A blob whose sync fails is one of these, since
// the system may have dropped its bytes.
func (c *Cache) syncAll(snapshot *index.Catalog) error {
	snapshot.Sync(layout.Boot(), func(h v1.Hash) string {
		err := c.syncer.sync(h)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return syncFailed + layout.Boot()
	})
	if err := c.layout.SyncDirs(); err != nil {
		return err
	}
	c.catalog.adoptSynced(snapshot)
	return nil
}

// recordUnsynced tells all processes, at once, that a blob's sync failed: the
// next one's would succeed, and mean nothing.
func (c *Cache) recordUnsynced(h v1.Hash, cause error) {
	c.fault(cause)
	err := c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		e, ok := c.catalog.get(h)
		if !ok || e.Unsynced == "" {
			return nil
		}
		e.Unsynced = syncFailed + layout.Boot()
		return tx.Append(index.PutRecord(e))
	})
	c.faulted(err)
}

// syncFailed stands before the boot for a blob whose sync failed: what this
// boot has in memory tells nothing of what is on the disk.
const syncFailed = "failed:"

var errSync = errors.New("an earlier sync of the blob failed")
