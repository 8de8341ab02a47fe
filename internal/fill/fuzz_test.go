package fill_test

import (
	"math/rand/v2"
	"testing"
)

// FuzzFollow plays what the bytes say, and compares what each reader got with
// what it should have got.
func FuzzFollow(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomScript(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 300 {
			return // long scripts find no more
		}
		bubble(t, func(t *testing.T) { newStage(script).play(t, script) })
	})
}

func TestRandomScripts(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		script := randomScript(seed)
		bubble(t, func(t *testing.T) { newStage(script).play(t, script) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// randomScript has each fault in some of the scripts.
func randomScript(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	script := make([]byte, header+r.IntN(120))
	for i := range script {
		script[i] = byte(r.Uint32())
	}
	for i := range header - 1 {
		script[i] &= byte(r.Uint32())
	}
	return script
}
