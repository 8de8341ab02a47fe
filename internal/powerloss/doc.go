// Powerloss cuts the power of a file system that a cache is in use on, again
// and again, and looks what is there afterwards.
//
// The file system is a real one, in an image file behind a loop device. A
// process fills, decompresses, deletes and flushes in it, and says what it has
// done. At some moment the file system is shut down without writing anything
// back: the ioctl with which xfstests tests what a crash leaves (EXT4_IOC_SHUTDOWN,
// XFS_IOC_GOINGDOWN). From that instant on nothing of it reaches the device,
// so the image file has what had been submitted by then, be it in the middle
// of a commit of the journal. (A copy of the image file that is made while the
// file system goes on is no such instant: what is copied late may be newer
// than what is copied early, as on no device ever.) The image is then mounted
// again, which replays the file system's journal, and the cache is made to
// belong to another boot, by writing another name in place of the present
// one's in index.json and in the journals. Then the cache is opened and read:
//
//   - it opens, and nothing wrong is served;
//   - what was filled before a Flush began that returned, and not deleted
//     since, is served without an origin. With SyncCommit that holds for all
//     that was filled, with SyncNever for nothing.
//
// The process then goes on in the same directory, until the next cut. What
// the check has flushed must survive that one.
//
// The loop device writes through to the page cache of the host: it is a disk
// whose own cache is not volatile. What was submitted is there, and a barrier
// that is missing does not show; what the file system holds back does. So
// half of the rounds begin with options by which it holds back more.
//
//	go run ./internal/powerloss [-rounds 20] [-fs ext4,xfs] [-dir DIR] [-seed N]
//
// It is for root on Linux, and works in a mount namespace of its own: what it
// mounts goes with it, however it ends. It exits with 1 if anything was wrong,
// and then keeps the image.
package main
