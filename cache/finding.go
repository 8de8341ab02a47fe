package cache

import (
	"cmp"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Problem is what [Cache.Verify] may find.
type Problem string

// The problems. What is not repaired unless stated, is repaired unless
// [VerifyOptions] say not to.
const (
	// Corrupt: the blob's bytes do not have its digest. Repaired by putting it
	// in quarantine: it is a miss, and its pair is remembered.
	Corrupt Problem = "corrupt"
	// Missing: the blob is not there, and was not taken away by this package.
	// Of an entry it is recorded; of another tool's image it is only reported.
	Missing Problem = "missing"
	// Unlisted: nothing lists or reaches the blob. It is repaired only by
	// [VerifyOptions.Rebuild].
	Unlisted Problem = "unlisted"
	// WrongPair: the blob does not decompress to the diffID that was recorded,
	// or a tar prefers a blob that does not. Repaired by recording what was
	// found.
	WrongPair Problem = "wrong pair"
	// WrongSize: the size recorded is not the blob's. Repaired by recording it.
	WrongSize Problem = "wrong size"
	// WrongMediaType: the media type says another compression than the blob
	// has. Not repaired: it is the image's own.
	WrongMediaType Problem = "wrong media type"
	// Stray: something in blobs is no blob, for its name is no digest, or it is
	// a link or another special file. The latter is put in quarantine.
	Stray Problem = "stray"
	// Unreadable: reading the blob failed, or it decompresses to more than
	// [WithMaxUncompressed] allows, or it has its digest, but is not the
	// manifest that another tool listed it as. Not repaired.
	Unreadable Problem = "unreadable"
)

// A Repair is what [Cache.Verify] did about a finding.
type Repair string

// The repairs.
const (
	NoRepair    Repair = ""
	Quarantined Repair = "quarantined" // the file is in .ocicache/quarantine
	Recorded    Repair = "recorded"    // the catalog says what was found
	Listed      Repair = "listed"      // the catalog lists the blob
)

// A Finding is one thing that [Cache.Verify] found.
type Finding struct {
	Problem Problem
	Path    string  // in the cache's directory, with slashes
	Digest  v1.Hash // of the blob; zero if the file's name is none
	Err     error   // what is wrong: a [*DigestMismatchError], a [*SizeMismatchError], …
	Repair  Repair
}

// String describes the finding in a line.
func (f Finding) String() string {
	s := string(f.Problem) + ": " + f.Path
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	if f.Repair != NoRepair {
		s += " (" + string(f.Repair) + ")"
	}
	return s
}

// VerifyReport is what [Cache.Verify] did and found.
type VerifyReport struct {
	Blobs    int       // that were hashed
	Bytes    int64     // of these
	Pairs    int       // blobs that were decompressed
	Findings []Finding // sorted by path
}

func (r *VerifyReport) sort() {
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem))
	})
}
