package dynamotest

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// expression has the names and values of a request's expressions.
type expression struct{ names, values map[string]any }

func expressionOf(in map[string]any) *expression {
	names, _ := in["ExpressionAttributeNames"].(map[string]any)
	values, _ := in["ExpressionAttributeValues"].(map[string]any)
	return &expression{names, values}
}

var tokenPattern = regexp.MustCompile(`[#:]?[A-Za-z_][A-Za-z0-9_]*|<>|[()=,+-]`)

// parser reads an expression from left to right. It panics with a parseError at anything that it
// does not support.
type parser struct {
	*expression
	tokens []string
	it     Item // nil for none
}

type parseError string

func (e *expression) parse(text string, it Item, read func(p *parser)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			message, is := r.(parseError)
			if !is {
				panic(r)
			}
			err = fmt.Errorf("%s in %q", message, text)
		}
	}()
	p := &parser{e, tokenPattern.FindAllString(text, -1), it}
	read(p)
	if len(p.tokens) > 0 {
		return fmt.Errorf("%q is left of %q", p.tokens, text)
	}
	return nil
}

// condition evaluates a condition for an item.
func (e *expression) condition(text string, it Item) (is bool, err error) {
	err = e.parse(text, it, func(p *parser) { is = p.or() })
	return is, err
}

// update changes after according to an update expression, whose operands refer to before.
func (e *expression) update(text string, before, after Item) error {
	return e.parse(text, before, func(p *parser) {
		for len(p.tokens) > 0 {
			clause := strings.ToUpper(p.next())
			for {
				name := p.name(p.next())
				switch clause {
				case "SET":
					p.want("=")
					after[name] = p.sum()
				case "REMOVE":
					delete(after, name)
				case "ADD":
					sum, err := addNumbers(before[name], p.operand())
					if err != nil {
						panic(parseError(err.Error()))
					}
					after[name] = sum
				default:
					panic(parseError("the clause " + clause))
				}
				if p.peek() != "," {
					break
				}
				p.next()
			}
		}
	})
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	token := p.peek()
	if token == "" {
		panic(parseError("the end"))
	}
	p.tokens = p.tokens[1:]
	return token
}

func (p *parser) want(token string) {
	if got := p.next(); got != token {
		panic(parseError(fmt.Sprintf("%q where %q is wanted", got, token)))
	}
}

func (p *parser) or() bool {
	is := p.and()
	for strings.EqualFold(p.peek(), "OR") {
		p.next()
		other := p.and()
		is = is || other
	}
	return is
}

func (p *parser) and() bool {
	is := p.term()
	for strings.EqualFold(p.peek(), "AND") {
		p.next()
		other := p.term()
		is = is && other
	}
	return is
}

func (p *parser) term() bool {
	switch token := p.peek(); {
	case token == "(":
		p.next()
		is := p.or()
		p.want(")")
		return is
	case strings.EqualFold(token, "NOT"):
		p.next()
		return !p.term()
	case token == "attribute_exists", token == "attribute_not_exists":
		p.next()
		p.want("(")
		has := p.it[p.name(p.next())] != nil
		p.want(")")
		return has == (token == "attribute_exists")
	}
	left, operator, right := p.operand(), p.next(), p.operand()
	equal := left != nil && right != nil && reflect.DeepEqual(left, right)
	switch operator {
	case "=":
		return equal
	case "<>":
		return !equal
	}
	panic(parseError("the operator " + operator))
}

// sum parses an operand, or the sum of two.
func (p *parser) sum() Attribute {
	value := p.operand()
	if p.peek() != "+" {
		return value
	}
	p.next()
	sum, err := addNumbers(value, p.operand())
	if err != nil {
		panic(parseError(err.Error()))
	}
	return sum
}

func (p *parser) operand() Attribute {
	token := p.next()
	switch {
	case strings.HasPrefix(token, ":"):
		value, has := p.values[token]
		if !has {
			panic(parseError("no value of " + token))
		}
		return asAttribute(value)
	case token == "if_not_exists":
		p.want("(")
		value := p.it[p.name(p.next())]
		p.want(",")
		other := p.operand()
		p.want(")")
		if value == nil {
			return other
		}
		return value
	}
	return p.it[p.name(token)]
}

// name returns the attribute for a name.
func (p *parser) name(token string) string {
	if !strings.HasPrefix(token, "#") {
		return token
	}
	name, has := p.names[token].(string)
	if !has {
		panic(parseError("no name of " + token))
	}
	return name
}
