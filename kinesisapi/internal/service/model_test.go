package service_test

import (
	"bufio"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/fault"
	"github.com/braidstream/braid/kinesisapi/internal/service"
	"github.com/braidstream/braid/kinesisapi/internal/wire"
)

// modelOperation is an operation of the service model.
type modelOperation struct {
	name            string
	request, answer []modelMember
	errors          []string
}

// modelMember is a member of a request or an answer.
type modelMember struct {
	path     string // such as "Entries[].ReceiptHandle"
	kind     string // such as "list-of-structure"
	required bool
	min, max string // empty if there is no bound
	enum     []string
	pattern  string
}

// readModel reads testdata/model.txt, the facts of the service model of 2013-12-02 as of
// the newest version with queues. A line names an operation, or one member of its request
// (<) or answer (>), or its errors (!).
func readModel(t *testing.T) (operations []*modelOperation) {
	file, err := os.Open("testdata/model.txt")
	require.NoError(t, err)
	defer file.Close()
	var op *modelOperation
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "<", ">":
			m := modelMember{path: words[1], kind: words[2]}
			for _, w := range words[3:] {
				name, value, _ := strings.Cut(w, "=")
				switch name {
				case "required":
					m.required = true
				case "enum":
					m.enum = strings.Split(value, ",")
				case "pattern":
					m.pattern = value
				case "events":
					m.kind = "events"
				default:
					m.min, m.max, _ = strings.Cut(w, "..")
				}
			}
			if words[0] == "<" {
				op.request = append(op.request, m)
			} else {
				op.answer = append(op.answer, m)
			}
		case "!":
			op.errors = words[1:]
		default:
			op = &modelOperation{name: words[0]}
			operations = append(operations, op)
		}
	}
	require.NoError(t, lines.Err())
	return operations
}

// refused are the operations that refuse every request.
func refused(operation string) bool {
	return strings.HasSuffix(operation, "Channel")
}

// The service has every operation of the model. Each accepts every member of the model's
// request, and answers only with members of the model's answer, always including the
// required ones.
func TestModelMembers(t *testing.T) {
	// Answers cannot have these members, because streams have no id here and channels do not
	// exist.
	never := func(path string) bool {
		return strings.HasSuffix(path, "StreamId") || strings.HasPrefix(path, "ChannelSummaries[].") || path == "EventStream"
	}
	model := readModel(t)
	require.Len(t, model, len(service.Operations))
	for _, op := range model {
		t.Run(op.name, func(t *testing.T) {
			require.Contains(t, service.Operations, op.name)
			if refused(op.name) {
				return
			}
			compareMembers(t, op.request, reflect.TypeOf(service.Operations[op.name].NewInput()).Elem(), func(string) bool { return false })
			method, ok := reflect.TypeFor[*service.Service]().MethodByName(op.name)
			require.True(t, ok)
			out := method.Type.Out(0).Elem()
			if out == reflect.TypeFor[service.Subscription]() {
				return
			}
			compareMembers(t, op.answer, out, never)
			for _, m := range op.answer {
				if !m.required || never(m.path) {
					continue
				}
				// Structs of requests also occur in answers. Then the operation itself sets all members.
				if field := fieldAt(t, out, m.path); field.Tag == "" {
					require.NotEqual(t, reflect.Pointer, field.Type.Kind(), "%s is required in an answer, so it must always be written", m.path)
				}
			}
		})
	}
}

// compareMembers compares the members of a struct with those of the model, except those
// that never occur.
func compareMembers(t *testing.T, model []modelMember, in reflect.Type, never func(path string) bool) {
	t.Helper()
	var want, got []string
	for _, m := range model {
		if !never(m.path) {
			want = append(want, m.path+" "+m.kind)
		}
	}
	var walk func(prefix string, in reflect.Type)
	walk = func(prefix string, in reflect.Type) {
		for field := range in.Fields() {
			kind, inner := kindOf(field.Type)
			got = append(got, prefix+field.Name+" "+kind)
			if inner == nil || inner == reflect.TypeFor[service.Empty]() {
				continue
			}
			if kind == "structure" {
				walk(prefix+field.Name+".", inner)
			} else {
				walk(prefix+field.Name+"[].", inner)
			}
		}
	}
	walk("", in)
	require.ElementsMatch(t, want, got)
}

// kindOf returns the model's name of a type, and the struct in it.
func kindOf(in reflect.Type) (kind string, inner reflect.Type) {
	switch in {
	case reflect.TypeFor[[]byte]():
		return "blob", nil
	case reflect.TypeFor[[]string]():
		return "list-of-string", nil
	case reflect.TypeFor[map[string]string]():
		return "map-of-string", nil
	}
	if in.Kind() == reflect.Pointer {
		in = in.Elem()
	}
	switch {
	case in == reflect.TypeFor[time.Time]():
		return "timestamp", nil
	case in.Kind() == reflect.Struct:
		return "structure", in
	case in.Kind() == reflect.Slice:
		return "list-of-structure", in.Elem()
	}
	return map[reflect.Kind]string{reflect.String: "string", reflect.Int32: "integer", reflect.Int64: "long", reflect.Bool: "boolean"}[in.Kind()], nil
}

// fieldAt returns the field that a path leads to.
func fieldAt(t *testing.T, in reflect.Type, path string) (field reflect.StructField) {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		if in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
			in = in.Elem()
		}
		var ok bool
		field, ok = in.FieldByName(strings.TrimSuffix(name, "[]"))
		require.True(t, ok, path)
		in = field.Type
	}
	return field
}

// Tests can inject each error that the model lists for an operation.
func TestModelErrors(t *testing.T) {
	for _, op := range readModel(t) {
		require.NotEmpty(t, op.errors, op.name)
		require.Subset(t, fault.Names, op.errors, op.name)
	}
}

// A request that breaks a constraint of the model is refused with the name of the
// constraint.
func TestModelConstraints(t *testing.T) {
	for _, op := range readModel(t) {
		if refused(op.name) {
			continue
		}
		for _, m := range op.request {
			t.Run(op.name+"/"+m.path, func(t *testing.T) { checkConstraints(t, service.Operations[op.name], m) })
		}
	}
}

func checkConstraints(t *testing.T, op *service.Operation, m modelMember) {
	// expect sends a request with only this member, and requires that it fails the constraint.
	expect := func(value, constraint string) {
		t.Helper()
		in := op.NewInput()
		document, err := wire.ParseJSON([]byte(documentWith(m.path, value)))
		require.NoError(t, err)
		require.NoError(t, wire.Bind(document, in))
		message := wire.Validate(in)
		require.Contains(t, message, "at '"+pathInText(m.path)+"' failed to satisfy constraint: "+constraint)
	}
	if m.required {
		expect("null", "Member must not be null")
	}
	if strings.HasSuffix(m.path, "StreamId") {
		return // whatever it is, it names nothing here
	}
	most := m.max
	if strings.HasSuffix(m.path, "ShardLevelMetrics") {
		most = "8" // the model's bound does not count ALL
	}
	sized := func(n int) string { return `"` + strings.Repeat("a", n) + `"` }
	switch m.kind {
	case "integer", "long":
		if m.min != "" {
			expect(strconv.Itoa(number(t, m.min)-1), "Member must have value greater than or equal to "+m.min)
		}
		if most != "" {
			expect(strconv.Itoa(number(t, most)+1), "Member must have value less than or equal to "+most)
		}
		return
	case "list-of-structure":
		sized = func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("{},", n), ",") + "]" }
	case "list-of-string":
		sized = func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(`"a",`, n), ",") + "]" }
	case "map-of-string":
		sized = func(n int) string {
			var pairs []string
			for i := range n {
				pairs = append(pairs, `"`+strconv.Itoa(i)+`":""`)
			}
			return "{" + strings.Join(pairs, ",") + "}"
		}
	case "blob":
		sized = func(n int) string { return `"` + strings.Repeat("AAAA", (n+2)/3) + `"` }
	}
	if m.min != "" && m.min != "0" {
		expect(sized(number(t, m.min)-1), "Member must have length greater than or equal to "+m.min)
	}
	if most != "" {
		expect(sized(number(t, most)+1), "Member must have length less than or equal to "+most)
	}
	if m.pattern != "" {
		pattern := strings.TrimSuffix(strings.TrimPrefix(m.pattern, "^("), ")$") // the service's texts have no anchors
		if strings.HasPrefix(m.pattern, "^(arn)") {
			pattern = m.pattern
		}
		expect(`" "`, "Member must satisfy regular expression pattern: "+pattern)
	}
	if m.enum != nil {
		checkEnum(t, op, m)
	}
}

// checkEnum requires that the member accepts the model's values and no others.
func checkEnum(t *testing.T, op *service.Operation, m modelMember) {
	in := op.NewInput()
	value := `"?"`
	if m.kind == "list-of-string" {
		value = `["?"]`
	}
	document, err := wire.ParseJSON([]byte(documentWith(m.path, value)))
	require.NoError(t, err)
	require.NoError(t, wire.Bind(document, in))
	_, text, found := strings.Cut(wire.Validate(in), "Member must satisfy enum value set: [")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "]")
	got := slices.DeleteFunc(strings.Split(text, ", "), func(v string) bool { return v == "ALL" && m.kind == "list-of-string" })
	want := slices.DeleteFunc(m.enum, func(v string) bool { return v == "ALL" && m.kind == "list-of-string" })
	require.ElementsMatch(t, want, got)
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// documentWith returns a request with one member, and the members that contain it.
func documentWith(path, value string) string {
	name, rest, nested := strings.Cut(path, ".")
	list, isList := strings.CutSuffix(name, "[]")
	if nested {
		value = documentWith(rest, value)
	}
	if isList && nested {
		value = "[" + value + "]"
	}
	return `{"` + list + `":` + value + `}`
}

// pathInText returns the path of a member as the text of a failed constraint writes it.
func pathInText(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		p = strings.ToLower(p[:1]) + p[1:]
		parts[i] = strings.Replace(p, "[]", ".1.member", 1)
	}
	return strings.Join(parts, ".")
}
