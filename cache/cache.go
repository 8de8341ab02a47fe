// Package cache keeps container image layers in an OCI image layout, each
// fetched once, found by its digest or its diffID, and decompressed when the
// uncompressed form is first asked for.
//
// Wrap what go-containerregistry gives you with [Cache.Image],
// [Cache.ImageIndex] or [Cache.Layer] and read it as before. A *Cache also
// is a go-containerregistry cache.Cache.
//
// A cache never fails a read that the origin can serve, and never serves
// bytes that it did not verify. It never talks to a registry: that is for
// the layers that it wraps.
//
// Several processes may use one directory at once. Network file systems,
// whose locks do not hold, are not for it.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrcache "github.com/google/go-containerregistry/pkg/v1/cache"

	"github.com/ocicache/ocicache/compression"
	"github.com/ocicache/ocicache/index"
	"github.com/ocicache/ocicache/internal/fill"
	"github.com/ocicache/ocicache/layout"
)

// A Cache is an open cache directory. It is safe for concurrent use.
type Cache struct {
	o       options
	layout  *layout.Layout
	catalog catalog
	count   counters

	fillSlots       *fill.Slots
	decompressSlots *fill.Slots
	fills           fills
	builds          builds
	checks          checks
	syncer          *syncer
	uses            uses

	ctx  context.Context // ends when Close gives fills up
	stop context.CancelCauseFunc

	background sync.WaitGroup // checkpoints
	compacting chan struct{}  // held by the checkpoint under way
	pruning    chan struct{}  // held by the prune under way
	pruneWaits atomic.Bool    // a background prune has yet to begin
	unpruned   atomic.Int64   // bytes that were committed since the last background prune
	looked     atomic.Int64   // when other processes were last looked at, in nanoseconds since the Unix epoch
}

var _ ggcrcache.Cache = (*Cache)(nil)

// Open opens the cache in dir, and creates it if there is none. The
// directory may be in use by other processes.
//
// A dir that is a file, or that holds other things and no oci-layout file, is
// [ErrNotLayout] and left untouched; a layout or a cache of an unknown version
// is [ErrVersion], an index.json that is none [ErrMalformed], unless there is
// [WithRecovery]. A layout that another tool wrote opens, and what it lists is
// kept.
func Open(dir string, opts ...Option) (*Cache, error) {
	o := defaults()
	for _, opt := range opts {
		opt(&o)
	}
	if _, err := compression.ParseSettings(o.codec.String()); err != nil {
		return nil, fmt.Errorf("cache: open %s: codec: %w", dir, err)
	}
	if _, err := o.parse(o.prune); err != nil {
		return nil, fmt.Errorf("cache: open %s: prune: %w", dir, err)
	}
	l, err := layout.Open(dir, layout.Options{ReadOnly: o.readOnly, LockTimeout: o.lockTimeout, Hook: o.hook})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &Cache{
		o:               o,
		layout:          l,
		fillSlots:       fill.NewSlots(o.maxFills),
		decompressSlots: fill.NewSlots(o.maxDecompress),
		compacting:      make(chan struct{}, 1),
		pruning:         make(chan struct{}, 1),
		uses:            uses{m: map[v1.Hash]*blobUse{}},
	}
	if err := c.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("cache: open %s: %w", dir, err), l.Close())
	}
	if n := c.catalog.skipped(); n > 0 {
		o.log.Warn("journal records could not be read", "dir", dir, "records", n)
	}
	if network := l.Network(); network != "" {
		o.log.Warn("the file system may be one of the network, whose locks may not hold", "dir", dir, "type", network)
	}
	c.uses.journal = c.journalUsesLater
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	c.builds.ctx, c.builds.stop = context.WithCancelCause(c.ctx)
	c.builds.gaveUp = c.ctx.Done()
	c.builds.lost = func(p *panicked) { o.log.Error("a build panicked, and nobody waits for it", "dir", dir, "err", p) }
	c.syncer = startSyncer(l, o.sync, c.recordUnsynced)
	return c, nil
}

// load reads the catalog.
func (c *Cache) load() error {
	err := malformed(c.layout.Load(&c.catalog))
	if !errors.Is(err, ErrMalformed) || !c.o.recovery {
		return err
	}
	aside, serr := c.layout.SetIndexAside()
	if serr != nil {
		return errors.Join(err, serr)
	}
	c.o.log.Warn("index.json was set aside", "dir", c.layout.Dir(), "to", aside, "err", err)
	return malformed(c.layout.Load(&c.catalog))
}

// malformed makes an index.json that is too large a malformed one.
func malformed(err error) error {
	if errors.Is(err, layout.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// Flush writes everything that changed into index.json, after syncing the
// blobs that it newly lists. It is for other tools to see, and for a power
// failure to spare; a blob whose sync fails is counted, logged, and not spared. It does nothing if nothing changed. Its errors are
// [ErrReadOnly], [ErrClosed], [ErrLocked], and what writing may meet.
func (c *Cache) Flush() error {
	if c.o.readOnly {
		return fmt.Errorf("cache: flush: %w", ErrReadOnly)
	}
	if c.fills.isClosed() {
		return fmt.Errorf("cache: flush: %w", ErrClosed)
	}
	if err := c.checkpoint(); err != nil {
		return fmt.Errorf("cache: flush %s: %w", c.layout.Dir(), err)
	}
	return nil
}

// Close refuses new work, ends the contexts of builds under way, and waits for
// these and for fills up to the limit of [WithCloseTimeout]. Then it closes
// the origins, and who reads or waits for a build gets [ErrClosed]. It returns
// an error that names what would not stop. Readers of
// what is on disk already can be read on. Closing twice is harmless.
func (c *Cache) Close() error {
	if !c.fills.close(closedError{}) {
		return nil
	}
	c.builds.close(closedError{})
	errs := c.drain()
	c.background.Wait()
	c.uses.end()
	c.journalUses()
	c.syncer.close()
	if !c.o.readOnly && c.worthCheckpoint() {
		if err := c.checkpoint(); !errors.Is(err, ErrLocked) { // else another process is at it, or the next will be
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.layout.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cache: close %s: %w", c.layout.Dir(), err)
	}
	return nil
}

// drain waits for what is under way, and in the end stops it. Its errors name
// what did not stop.
func (c *Cache) drain() (errs []error) {
	const patience = 5 * time.Second
	defer c.stop(closedError{})
	begun := time.Now()
	if c.fills.wait(c.o.closeTimeout) && c.builds.wait(c.o.closeTimeout-time.Since(begun)) {
		return nil
	}
	c.stop(closedError{})
	begun = time.Now()
	if !c.fills.wait(patience) {
		errs = append(errs, fmt.Errorf("still filling %v", c.fills.running()))
	}
	if !c.builds.wait(patience - time.Since(begun)) {
		errs = append(errs, fmt.Errorf("still building %.80q", c.builds.running()))
	}
	return errs
}

// untilStop returns a context that ends with ctx, or, as [ErrClosed], when Close
// has waited for fills. The caller cancels it.
func (c *Cache) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// checkpoint writes the catalog into index.json.
func (c *Cache) checkpoint() error {
	return c.layout.Checkpoint(context.Background(), func(cp layout.Checkpoint, w io.Writer) error {
		snapshot := c.catalog.clone()
		if c.o.sync != SyncNever {
			if err := c.syncAll(snapshot); err != nil {
				return err
			}
		}
		if err := snapshot.Encode(w, cp.Folded); err != nil {
			return err
		}
		c.catalog.fold(snapshot)
		return nil
	})
}

const (
	smallCatalog = 10_000  // entries: so many are written in no time
	entryBytes   = 512     // of an entry in index.json, roughly
	minJournal   = 4 << 20 // bytes
)

// worthCheckpoint reports whether Close should write index.json: if that is
// quick and more changed than uses, or if much changed.
func (c *Cache) worthCheckpoint() bool {
	n := int64(c.catalog.len())
	return n <= smallCatalog && c.catalog.changed() || c.layout.JournalSize() > max(minJournal, n*entryBytes/8)
}

// compact starts a checkpoint in the background when the journal has
// outgrown its share of the index, so that writing the index costs each
// commit a constant.
func (c *Cache) compact() {
	if c.layout.JournalSize() < max(minJournal, int64(c.catalog.len())*entryBytes/2) {
		return
	}
	if !c.fills.whileOpen(func() { c.background.Add(1) }) {
		return
	}
	go func() {
		defer c.background.Done()
		select {
		case c.compacting <- struct{}{}:
			defer func() { <-c.compacting }()
		default:
			return // it is being done
		}
		if err := c.checkpoint(); err != nil {
			c.fault(err)
		}
	}()
}

// Delete removes a hash: its bytes, and what was known of it. Of a pair, the
// other hash stays. A hash that is not known is [ErrNotFound]; the other
// errors are [ErrReadOnly], [ErrClosed] and [ErrLocked]. Readers that have the
// bytes open keep them. So do images that another tool put into the layout, if
// they reach the blob: then only the entry goes.
func (c *Cache) Delete(h v1.Hash) error {
	if c.fills.isClosed() {
		return fmt.Errorf("cache: delete %s: %w", h, ErrClosed)
	}
	c.catchUp()
	if err := lookAgain(func() error { return c.remove(h) }); err != nil {
		return fmt.Errorf("cache: delete %s: %w", h, err)
	}
	return nil
}

// remove is Delete, unless other tools' images change meanwhile.
func (c *Cache) remove(h v1.Hash) error {
	generation := c.catalog.generation()
	keep, err := c.othersReach(h)
	if err != nil {
		return err
	}
	return c.layout.Update(c.ctx, func(tx *layout.Tx) error {
		switch {
		case c.catalog.generation() != generation:
			return errOutdated
		case !c.catalog.known(h):
			return ErrNotFound
		case keep:
			return tx.Append(index.DeleteRecord(h))
		}
		return tx.Remove(h, index.DeleteRecord(h))
	})
}

// fault counts and logs that the cache itself failed. The read that met it
// goes on.
func (c *Cache) fault(err error) {
	c.count.writeFaults.Add(1)
	c.o.log.Warn("cache fault", "dir", c.layout.Dir(), "err", err)
}

// faulted is fault, if there is an error.
func (c *Cache) faulted(err error) {
	if err != nil {
		c.fault(err)
	}
}
