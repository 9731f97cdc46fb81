package memstore

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/varint"
)

// onceKeys are once-keys with what is kept with them, in blocks of bytes without pointers: there
// may be millions, which the garbage collector does not look at. A block goes when the time of
// all its keys is over, so keys of about the same age share one. The zero onceKeys is empty.
type onceKeys struct {
	index  map[uint64]oncePlace // by hash of the key: of the keys of one hash the latest
	blocks [onceAges]onceBlocks
	later  map[string]keptOnce // keys that have the hash of another one
}

const (
	onceAges  = 12       // a key with d seconds is in blocks number bits.Len(d)/2
	onceBlock = 16 << 10 // bytes
)

// onceBlocks are the blocks of keys of about one age, oldest first.
type onceBlocks struct {
	first uint64 // the number of the first block
	all   []*onceBlockOf
}

type onceBlockOf struct {
	until int64 // of the key that is kept longest, in µs since 1970
	data  []byte
}

// A oncePlace is where a key is: its age, the number of its block, and the offset in it, in one
// number.
type oncePlace uint64

const (
	ageBits    = 4
	offsetBits = 14 // of onceBlock
)

func placeOf(age int, block uint64, offset int) oncePlace {
	return oncePlace(block<<(ageBits+offsetBits) | uint64(offset)<<ageBits | uint64(age))
}

func (p oncePlace) age() int      { return int(p & (1<<ageBits - 1)) }
func (p oncePlace) offset() int   { return int(p >> ageBits & (1<<offsetBits - 1)) }
func (p oncePlace) block() uint64 { return uint64(p >> (ageBits + offsetBits)) }

// A keptOnce is what is kept with a key. Its bytes are valid while the shard is locked.
type keptOnce struct {
	until        int64 // in µs since 1970
	hash, answer []byte
}

// lookup returns what is kept with a key, if it is known.
func (o *onceKeys) lookup(seed maphash.Seed, key string, now time.Time) (k keptOnce, known bool) {
	k, known = o.later[key]
	if !known {
		k, known = o.find(maphash.String(seed, key), key)
	}
	return k, known && k.until > now.UnixMicro()
}

func (o *onceKeys) find(hash uint64, key string) (k keptOnce, found bool) {
	at, ok := o.index[hash]
	if !ok {
		return k, false
	}
	b := &o.blocks[at.age()]
	name, k := readOnce(&varint.Reader{Rest: b.all[at.block()-b.first].data[at.offset():]})
	return k, string(name) == key
}

// readOnce reads a key and what is kept with it.
func readOnce(r *varint.Reader) (key []byte, k keptOnce) {
	k.until = r.Signed()
	key, k.hash, k.answer = r.Bytes(r.Unsigned()), r.Bytes(r.Unsigned()), r.Bytes(r.Unsigned())
	return key, k
}

// keep keeps an answer with a key, and drops a block of which the time is over.
func (o *onceKeys) keep(seed maphash.Seed, once *zael.Once, now time.Time, answer []byte) {
	if o.index == nil {
		o.index = map[uint64]oncePlace{}
	}
	o.drop(seed, now.UnixMicro())
	until, hash := once.Until.UnixMicro(), maphash.String(seed, once.Key)
	if _, used := o.index[hash]; used {
		if _, same := o.find(hash, once.Key); !same { // nearly never
			if o.later == nil {
				o.later = map[string]keptOnce{}
			}
			o.later[once.Key] = keptOnce{until, []byte(once.Hash), append([]byte(nil), answer...)}
			return
		}
	}
	entry := binary.AppendVarint(make([]byte, 0, len(once.Key)+len(once.Hash)+len(answer)+16), until)
	for _, text := range []string{once.Key, once.Hash, string(answer)} {
		entry = append(binary.AppendUvarint(entry, uint64(len(text))), text...)
	}
	age := min(bits.Len64(uint64(max(0, once.Until.Sub(now))/time.Second))/2, onceAges-1)
	b := &o.blocks[age]
	last := len(b.all) - 1
	if last < 0 || len(b.all[last].data)+len(entry) > cap(b.all[last].data) {
		b.all = append(b.all, &onceBlockOf{data: make([]byte, 0, max(onceBlock, len(entry)))})
		last++
	}
	block := b.all[last]
	o.index[hash] = placeOf(age, b.first+uint64(last), len(block.data))
	block.data, block.until = append(block.data, entry...), max(block.until, until)
}

// drop drops the oldest block of each age if the time of its keys is over.
func (o *onceKeys) drop(seed maphash.Seed, now int64) {
	for age := range o.blocks {
		b := &o.blocks[age]
		if len(b.all) == 0 || b.all[0].until > now {
			continue
		}
		data := b.all[0].data
		for r := (varint.Reader{Rest: data}); len(r.Rest) > 0; {
			at := placeOf(age, b.first, len(data)-len(r.Rest))
			key, _ := readOnce(&r)
			if hash := maphash.Bytes(seed, key); o.index[hash] == at {
				delete(o.index, hash)
			}
		}
		b.all[0] = nil
		b.all, b.first = b.all[1:], b.first+1
	}
	for key, k := range o.later {
		if k.until <= now {
			delete(o.later, key)
		}
	}
}
