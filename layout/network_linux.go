package layout

import "golang.org/x/sys/unix"

// networks are the file systems whose locks and modification times may not
// hold between machines, by the magic numbers of statfs(2). Those that magic.h
// does not have are the kernel's own or their makers'.
var networks = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.SMB2_SUPER_MAGIC: "smb",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.V9FS_MAGIC:       "9p",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.AFS_SUPER_MAGIC:  "afs",
	unix.AFS_FS_MAGIC:     "afs",
	unix.CODA_SUPER_MAGIC: "coda",
	unix.FUSE_SUPER_MAGIC: "fuse",
	0x0bd00bd0:            "lustre",
	0x47504653:            "gpfs",
	0x01161970:            "gfs2",
	0x7461636f:            "ocfs2",
}

// Network names the file system that the layout is on if it is, or may be, one
// of the network, whose locks may not hold; it is "" if it is not, or cannot
// be told.
func (l *Layout) Network() string {
	var st unix.Statfs_t
	if unix.Statfs(l.dir, &st) != nil {
		return ""
	}
	return networks[uint32(st.Type)]
}
