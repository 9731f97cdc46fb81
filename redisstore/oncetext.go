package redisstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A keptDebit is a debit as it is kept with a once-key of a cluster, so that whoever finds the key
// can complete it or give it back.
type keptDebit struct {
	Entity   string       `json:"e"`
	Resource string       `json:"r"`
	Holder   string       `json:"h,omitempty"`
	Settings int64        `json:"s,omitempty"`
	Bypass   bool         `json:"b,omitempty"`
	Charges  []keptCharge `json:"c,omitempty"`
}

type keptCharge struct {
	Name       string `json:"n"`
	Definition string `json:"d"` // see definitionText, with the receipt's generation
	Amount     int64  `json:"a"`
	Mark       int64  `json:"m"` // the receipt's
}

// debitsText returns debits as text, with their receipts.
func debitsText(debits []zael.Debit) []byte {
	kept := make([]keptDebit, len(debits))
	for i := range debits {
		d := &debits[i]
		kept[i] = keptDebit{Entity: d.Key.Entity, Resource: d.Key.Resource, Holder: d.Holder, Settings: d.SettingsRev, Bypass: d.Bypass}
		for j := range d.Charges {
			c := &d.Charges[j]
			kept[i].Charges = append(kept[i].Charges, keptCharge{c.Name, definitionText(&c.Definition, c.Receipt.Generation), c.Amount, c.Receipt.Mark})
		}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		panic(err) // texts and numbers alone
	}
	return text
}

// parseDebits reads what debitsText wrote.
func parseDebits(text string) ([]zael.Debit, error) {
	var kept []keptDebit
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return nil, fmt.Errorf("redisstore: %w: a once-key: %w", errDamaged, err)
	}
	debits := make([]zael.Debit, len(kept))
	for i, k := range kept {
		debits[i] = zael.Debit{Key: zael.Key{Entity: k.Entity, Resource: k.Resource}, Holder: k.Holder, SettingsRev: k.Settings, Bypass: k.Bypass}
		for _, c := range k.Charges {
			d, generation, err := parseDefinition(c.Definition)
			if err != nil {
				return nil, fmt.Errorf("redisstore: %w: a once-key: %w", errDamaged, err)
			}
			debits[i].Charges = append(debits[i].Charges, zael.Charge{
				Name: c.Name, Definition: d, Amount: c.Amount, Receipt: bucket.Receipt{Mark: c.Mark, Generation: generation},
			})
		}
	}
	return debits, nil
}

// givingBack returns the debits that give back what others took.
func givingBack(taken []zael.Debit) []zael.Debit {
	back := cloned(taken)
	for i := range back {
		for j := range back[i].Charges {
			back[i].Charges[j].Amount = -back[i].Charges[j].Amount
		}
	}
	return back
}

func cloned(debits []zael.Debit) []zael.Debit {
	all := append([]zael.Debit(nil), debits...)
	for i := range all {
		all[i].Charges = append([]zael.Charge(nil), all[i].Charges...)
	}
	return all
}

// byEntity returns debits as groups of one entity each, which share their charges.
func byEntity(debits []zael.Debit) (groups [][]zael.Debit) {
	at := map[string]int{}
	for _, d := range debits {
		i, ok := at[d.Key.Entity]
		if !ok {
			i = len(groups)
			at[d.Key.Entity], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], d)
	}
	return groups
}

// A claim is a once-key of a cluster that is known, as it is kept.
type claim struct {
	id     string // of the write that made it what it is
	hash   string
	until  int64  // in ns after 1970
	answer string // of what is done, and of an adjust
	op     string // takeOp or adjustOp, of what is under way; "" of what is done
	debits string // of what is under way
	since  int64  // when that began, in ns after 1970
}

// Fields of the hash of a once-key that is under way; the others are those of what is done.
const (
	claimOpField     = "p"
	claimDebitsField = "d"
	claimSinceField  = "t"

	claimsTake   = "take"
	claimsAdjust = "adjust"
)

// parseClaim reads a hash; nil if the key is not known, or its time is over. id is its last write.
func parseClaim(fields []string, now time.Time) (c *claim, id string, err error) {
	c = new(claim)
	var until, since string
	for i := 0; i+1 < len(fields); i += 2 {
		if field := map[string]*string{
			onceIDField: &c.id, onceHashField: &c.hash, onceUntilField: &until, onceAnswerField: &c.answer,
			claimOpField: &c.op, claimDebitsField: &c.debits, claimSinceField: &since,
		}[fields[i]]; field != nil {
			*field = fields[i+1]
		}
	}
	if c.id == "" {
		return nil, "", nil
	}
	if _, err := fmt.Sscan(until, &c.until); err != nil {
		return nil, "", fmt.Errorf("redisstore: %w: a once-key: %w", errDamaged, err)
	}
	if c.op != "" {
		if _, err := fmt.Sscan(since, &c.since); err != nil {
			return nil, "", fmt.Errorf("redisstore: %w: a once-key: %w", errDamaged, err)
		}
	}
	if c.until <= now.UnixNano() {
		return nil, c.id, nil
	}
	return c, c.id, nil
}
