package redisstore

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"
)

//go:embed take.lua
var takeText string

//go:embed write.lua
var writeText string

// A lua is a script and its SHA-1, by which the server knows it. That stands here, as Go does not
// compute it where only FIPS algorithms are allowed; a test compares it.
type lua struct{ text, sha1 string }

//nolint:gochecknoglobals // constants
var (
	takeScript = &lua{takeText, "2c588013fb37ae91f9e52972f4666551d8115ce9"}
	editScript = &lua{writeText, "8841121a4cb049226a8c9db6f0b090151d08941a"}
)

// A verdict is the first number of a script's answer.
type verdict int64

const (
	notApplied verdict = iota
	applied
	appliedBefore
	unknown
)

// An answer is that of a script: the hashes that it has, in order; nil where the script says that
// one is as the caller knows it, or of all.
type answer struct {
	verdict verdict
	hashes  [][]string
}

// answerOf reads an answer.
func answerOf(result rueidis.RedisResult) (a answer, err error) {
	message, err := result.ToMessage()
	if err != nil {
		return a, err
	}
	if message.IsInt64() {
		n, err := message.ToInt64()
		return answer{verdict: verdict(n)}, err
	}
	values, err := message.ToArray()
	if err != nil {
		return a, err
	}
	if len(values) == 0 {
		return a, fmt.Errorf("a script answers nothing: %w", errDamaged)
	}
	n, err := values[0].ToInt64()
	if err != nil {
		return a, err
	}
	a.verdict = verdict(n)
	a.hashes = make([][]string, 0, len(values)-1)
	for i := range values[1:] {
		v := &values[i+1]
		if v.IsInt64() {
			a.hashes = append(a.hashes, nil)
			continue
		}
		hash, err := v.AsStrSlice()
		if err != nil {
			return a, err
		}
		if hash == nil {
			hash = []string{}
		}
		a.hashes = append(a.hashes, hash)
	}
	return a, nil
}

// A writeScript is what write.lua is called with.
type writeScript struct {
	keys       []string
	conditions []string
	commands   []string
}

// key returns the number of a key.
func (w *writeScript) key(name string) string {
	i := slices.Index(w.keys, name)
	if i < 0 {
		i = len(w.keys)
		w.keys = append(w.keys, name)
	}
	return strconv.Itoa(i + 1)
}

// require makes it a condition that a field begins with an id, or is missing if that is "".
func (w *writeScript) require(key, field, id string) {
	w.conditions = append(w.conditions, w.key(key), field, id)
}

// command adds one on the key with a number.
func (w *writeScript) command(name, key string, words ...string) {
	w.commands = append(append(w.commands, strconv.Itoa(len(words)+2), name, key), words...)
}

// args returns the arguments for the write with an id.
func (w *writeScript) args(id string) []string {
	return slices.Concat([]string{id, strconv.Itoa(len(w.conditions) / 3)}, w.conditions, w.commands)
}
