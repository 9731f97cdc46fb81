package dynamofake

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Item is what the library calls an item.
type Item = map[string]types.AttributeValue

// An expression is a text of the engine's language with what its placeholders
// stand for. It knows what zael uses and no more; all else panics with a
// *problem, which the calls return as an error.
type expression struct {
	tokens []string
	names  map[string]string
	values Item
	used   map[string]bool
}

type problem struct{ text string }

func fail(format string, args ...any) { panic(problem{fmt.Sprintf(format, args...)}) }

func parse(text string, names map[string]string, values Item, used map[string]bool) *expression {
	e := &expression{names: names, values: values, used: used, tokens: make([]string, 0, len(text)/3)}
	for i := 0; i < len(text); {
		j := i
		switch text[i] {
		case ' ':
			i++
			continue
		case '<', '>':
			if j++; j < len(text) && (text[j] == '=' || text[i] == '<' && text[j] == '>') {
				j++
			}
		case '=', '(', ')', ',', '+', '-':
			j++
		default:
			for j < len(text) && word(text[j]) {
				j++
			}
			if j == i {
				fail("syntax error at %q", text[i:])
			}
		}
		e.tokens = append(e.tokens, text[i:j])
		i = j
	}
	return e
}

// word reports whether a word may have c: a keyword, a name or a placeholder.
func word(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '#' || c == ':' || c == '_'
}

func (e *expression) peek() string {
	if len(e.tokens) == 0 {
		return ""
	}
	return e.tokens[0]
}

func (e *expression) next() string {
	t := e.peek()
	if t == "" {
		fail("the expression ends too early")
	}
	e.tokens = e.tokens[1:]
	return t
}

func (e *expression) want(t string) {
	if got := e.next(); got != t {
		fail("got %q where %q should stand", got, t)
	}
}

// path is an attribute's name.
func (e *expression) path() string {
	t := e.next()
	if !strings.HasPrefix(t, "#") {
		return t
	}
	name, ok := e.names[t]
	if !ok {
		fail("no name for %s", t)
	}
	e.used[t] = true
	return name
}

func (e *expression) value() types.AttributeValue {
	t := e.next()
	v, ok := e.values[t]
	if !ok {
		fail("no value for %s", t)
	}
	e.used[t] = true
	return v
}

// operand is a value or that of an attribute, nil if there is none.
func (e *expression) operand(it Item) types.AttributeValue {
	if strings.HasPrefix(e.peek(), ":") {
		return e.value()
	}
	return it[e.path()]
}

// either is a condition: OR of ANDs.
func (e *expression) either(it Item) bool {
	ok := e.both(it)
	for e.peek() == "OR" {
		e.next()
		other := e.both(it)
		ok = ok || other
	}
	return ok
}

func (e *expression) both(it Item) bool {
	ok := e.simple(it)
	for e.peek() == "AND" {
		e.next()
		other := e.simple(it)
		ok = ok && other
	}
	return ok
}

func (e *expression) simple(it Item) bool {
	switch e.peek() {
	case "(":
		e.next()
		ok := e.either(it)
		e.want(")")
		return ok
	case "attribute_exists", "attribute_not_exists":
		f := e.next()
		e.want("(")
		_, ok := it[e.path()]
		e.want(")")
		return ok == (f == "attribute_exists")
	}
	left := e.operand(it)
	op := e.next()
	if op == "BETWEEN" {
		low := e.operand(it)
		e.want("AND")
		high := e.operand(it)
		return compare(left, low, ">=") && compare(left, high, "<=")
	}
	return compare(left, e.operand(it), op)
}

// compare compares as the engine does: what is not there, or of another type,
// is in no order.
func compare(a, b types.AttributeValue, op string) bool {
	if a == nil || b == nil {
		return false
	}
	order := 0
	switch x := a.(type) {
	case *types.AttributeValueMemberN:
		y, ok := b.(*types.AttributeValueMemberN)
		if !ok {
			return op == "<>"
		}
		m, small := whole(x)
		n, too := whole(y)
		if order = cmp.Compare(m, n); !small || !too {
			order = number(x).Cmp(number(y))
		}
	case *types.AttributeValueMemberS:
		y, ok := b.(*types.AttributeValueMemberS)
		if !ok {
			return op == "<>"
		}
		order = strings.Compare(x.Value, y.Value)
	default:
		if same := reflect.DeepEqual(a, b); op == "=" || op == "<>" {
			return same == (op == "=")
		}
		fail("cannot compare %T", a)
	}
	switch op {
	case "=":
		return order == 0
	case "<>":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	}
	fail("unknown operator %q", op)
	return false
}

// whole is a number that is in int64.
func whole(v types.AttributeValue) (n int64, ok bool) {
	if v, is := v.(*types.AttributeValueMemberN); is {
		var err error
		n, err = strconv.ParseInt(v.Value, 10, 64)
		ok = err == nil
	}
	return n, ok
}

func number(v types.AttributeValue) *big.Int {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		fail("a %T is no number", v)
	}
	i, ok := new(big.Int).SetString(n.Value, 10)
	if !ok {
		fail("%q is not a whole number", n.Value)
	}
	return i
}

// update is the item after an update expression.
func (e *expression) update(it Item) Item {
	after := maps.Clone(it)
	set := map[string]bool{}
	once := func(name string) {
		if set[name] {
			fail("%s is changed twice", name)
		}
		set[name] = true
	}
	for e.peek() != "" {
		clause := e.next()
		for {
			name := e.path()
			once(name)
			switch clause {
			case "SET":
				e.want("=")
				after[name] = e.sum(it)
			case "ADD":
				after[name] = add(it[name], e.value(), 1)
			case "REMOVE":
				delete(after, name)
			default:
				fail("unknown clause %q", clause)
			}
			if e.peek() != "," {
				break
			}
			e.next()
		}
	}
	return after
}

func (e *expression) sum(it Item) types.AttributeValue {
	v := e.term(it)
	switch e.peek() {
	case "+":
		e.next()
		return plus(v, e.term(it), 1)
	case "-":
		e.next()
		return plus(v, e.term(it), -1)
	}
	if v == nil {
		fail("an attribute of the update is not there")
	}
	return v
}

func (e *expression) term(it Item) types.AttributeValue {
	if e.peek() != "if_not_exists" {
		return e.operand(it)
	}
	e.next()
	e.want("(")
	v := it[e.path()]
	e.want(",")
	other := e.operand(it)
	e.want(")")
	if v != nil {
		return v
	}
	return other
}

func plus(a, b types.AttributeValue, sign int64) types.AttributeValue {
	if a == nil || b == nil {
		fail("an attribute of the update is not there")
	}
	return add(a, b, sign)
}

// add counts what is not there as 0.
func add(a, b types.AttributeValue, sign int64) types.AttributeValue {
	if m, ok := whole(a); ok || a == nil {
		const most = math.MaxInt64 / 2
		if n, ok := whole(b); ok && max(m, -m, n, -n) < most && m > -most && n > -most {
			return &types.AttributeValueMemberN{Value: strconv.FormatInt(m+sign*n, 10)}
		}
	}
	sum := new(big.Int).Mul(number(b), big.NewInt(sign))
	if a != nil {
		sum.Add(sum, number(a))
	}
	return &types.AttributeValueMemberN{Value: sum.String()}
}
