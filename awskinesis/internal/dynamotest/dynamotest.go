// Package dynamotest is DynamoDB in the test's process, as far as a lease table and a table of
// results need it.
package dynamotest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Service implements the part of DynamoDB that a lease table needs, over its protocol, for the
// SDK's client and the KCL. It supports conditions and updates both as expressions and in the
// legacy form, which the KCL uses. Requests are served one after the other.
type Service struct {
	mu     sync.Mutex // guards the fields below, and is held while a request is served
	tables map[string]*table
	calls  map[string]int // by operation
	reads  float64        // units that they cost
	writes float64
	status string // of new tables and indexes; ACTIVE unless a test says otherwise

	fail func(op string, in map[string]any) string // see SetFaults; nil for none
}

// Attribute is a value in the protocol's form, such as {"S": "text"}, and Item is a row.
type (
	Attribute = map[string]any
	Item      = map[string]Attribute
)

type table struct {
	created map[string]any // CreateTable's input, with later changes
	key     string
	items   map[string]Item
	pitr    bool
}

// New returns a service without tables.
func New() *Service {
	return &Service{tables: make(map[string]*table), calls: make(map[string]int), status: "ACTIVE"}
}

// Client returns a client of the SDK whose requests do not leave the process.
func (d *Service) Client(options ...func(*dynamodb.Options)) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String("http://dynamodb.test"),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
		}),
		HTTPClient: &http.Client{Transport: d},
	}, options...)
}

// RoundTrip serves a request of a client in this process.
func (d *Service) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if w.Code == abort {
		return nil, io.ErrUnexpectedEOF
	}
	return w.Result(), nil
}

const abort = 999 // the connection breaks

// SetFaults sets a function that decides which requests fail, given the operation and the request.
// It returns "" to serve the request, "abort" to break the connection, and otherwise the name of an
// error to return. With the prefix "after ", the request is also served.
func (d *Service) SetFaults(fail func(op string, in map[string]any) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

// Count returns how often an operation was called since the last Count.
func (d *Service) Count(op string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.calls[op]
	d.calls[op] = 0
	return n
}

// Items returns a copy of the rows of a table, by their keys.
func (d *Service) Items(table string) map[string]Item {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tables[table] == nil {
		return nil
	}
	all := make(map[string]Item)
	for key, it := range d.tables[table].items {
		all[key] = maps.Clone(it)
	}
	return all
}

// Table returns the settings of a table as created and changed since, nil if it does not exist.
func (d *Service) Table(name string) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tables[name] == nil {
		return nil
	}
	return maps.Clone(d.tables[name].created)
}

// HasBackups reports whether point-in-time recovery is enabled for a table.
func (d *Service) HasBackups(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tables[name].pitr
}

// AddTable adds a table with that key attribute, unless one of that name exists.
func (d *Service) AddTable(name, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tables[name] == nil {
		d.tables[name] = &table{key: key, items: make(map[string]Item), created: map[string]any{
			"TableName": name, "TableStatus": "ACTIVE",
			"KeySchema": []any{map[string]any{"AttributeName": key, "KeyType": "HASH"}},
		}}
	}
}

// DropIndexes removes the indexes of a table.
func (d *Service) DropIndexes(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tables[name].created, "GlobalSecondaryIndexes")
}

// SetStatus sets the status of tables and indexes that are created from now on.
func (d *Service) SetStatus(status string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
}

// SetTableStatus sets the status of a table.
func (d *Service) SetTableStatus(name, status string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tables[name].created["TableStatus"] = status
}

// Costs returns the calls by operation and the units read and written since the last call of Costs.
func (d *Service) Costs() (calls map[string]int, reads, writes float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls, reads, writes = d.calls, d.reads, d.writes
	d.calls, d.reads, d.writes = make(map[string]int), 0, 0
	return calls, reads, writes
}

// Put stores a row as another program would.
func (d *Service) Put(t testing.TB, table string, row Item) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tables[table] == nil {
		t.Fatalf("no table %q", table)
	}
	d.tables[table].items[Text(row[d.tables[table].key])] = maps.Clone(row)
}

func (d *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := make(map[string]any)
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[op]++
	failure := ""
	if d.fail != nil {
		failure = d.fail(op, in)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	name, after := strings.CutPrefix(failure, "after ")
	if failure == "" || after {
		out, err := d.serve(op, in)
		var failed *dynamoError
		switch {
		case errors.As(err, &failed):
			w.WriteHeader(http.StatusBadRequest)
			out = map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + failed.code, "message": failed.message}
			if failed.row != nil {
				out["Item"] = failed.row
			}
			fallthrough
		case failure == "":
			_ = json.NewEncoder(w).Encode(out)
			return
		}
	}
	if name == "abort" {
		w.WriteHeader(abort)
		return
	}
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, `{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"by the test"}`, name)
}

type dynamoError struct {
	code, message string
	row           Item
}

func (e *dynamoError) Error() string { return e.code + ": " + e.message }

func refused(code, message string) error { return &dynamoError{code: code, message: message} }

func (d *Service) serve(op string, in map[string]any) (out map[string]any, err error) {
	name, _ := in["TableName"].(string)
	t := d.tables[name]
	if op == "CreateTable" {
		if t != nil {
			return nil, refused("ResourceInUseException", "the table is there: "+name)
		}
		return d.create(name, in)
	}
	if t == nil {
		return nil, refused("ResourceNotFoundException", "there is no table "+name)
	}
	switch op {
	case "DescribeTable":
		return map[string]any{"Table": d.describe(t)}, nil
	case "UpdateTable":
		return d.update(t, in)
	case "UpdateContinuousBackups":
		t.pitr = true
		return map[string]any{}, nil
	case "GetItem":
		it := t.items[Text(asItem(in["Key"])[t.key])]
		d.reads += readUnits(in, sizeOf(it))
		if it == nil {
			return map[string]any{}, nil
		}
		return map[string]any{"Item": it}, nil
	case "PutItem", "UpdateItem", "DeleteItem":
		return d.write(t, op, in)
	case "Scan", "Query":
		return d.list(t, op, in)
	}
	return nil, refused("UnknownOperationException", op)
}

func (d *Service) create(name string, in map[string]any) (map[string]any, error) {
	schema, _ := in["KeySchema"].([]any)
	if len(schema) != 1 {
		return nil, refused("ValidationException", "this table needs one key")
	}
	first, _ := schema[0].(map[string]any)
	key, _ := first["AttributeName"].(string)
	t := &table{created: in, key: key, items: make(map[string]Item)}
	in["TableStatus"] = d.status
	d.tables[name] = t
	return map[string]any{"TableDescription": d.describe(t)}, nil
}

func (d *Service) describe(t *table) map[string]any {
	out := maps.Clone(t.created)
	delete(out, "Tags")
	size := 0
	for _, it := range t.items {
		size += sizeOf(it)
	}
	out["TableSizeBytes"], out["ItemCount"] = size, len(t.items)
	if mode := out["BillingMode"]; mode != nil {
		out["BillingModeSummary"] = map[string]any{"BillingMode": mode}
	}
	indexes, _ := out["GlobalSecondaryIndexes"].([]any)
	for _, index := range indexes {
		if index := index.(map[string]any); index["IndexStatus"] == nil {
			index["IndexStatus"] = "ACTIVE"
		}
	}
	return out
}

func (d *Service) update(t *table, in map[string]any) (map[string]any, error) {
	updates, _ := in["GlobalSecondaryIndexUpdates"].([]any)
	indexes, _ := t.created["GlobalSecondaryIndexes"].([]any)
	for _, update := range updates {
		create, _ := update.(map[string]any)["Create"].(map[string]any)
		if create == nil {
			return nil, refused("ValidationException", "only Create")
		}
		create["IndexStatus"] = map[string]string{"ACTIVE": "ACTIVE"}[d.status]
		if d.status != "ACTIVE" {
			create["IndexStatus"], create["Backfilling"] = "CREATING", true
		}
		indexes = append(indexes, create)
	}
	t.created["GlobalSecondaryIndexes"] = indexes
	return map[string]any{"TableDescription": d.describe(t)}, nil
}

// Activate makes all tables and indexes that are being created usable.
func (d *Service) Activate() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = "ACTIVE"
	for _, t := range d.tables {
		t.created["TableStatus"] = "ACTIVE"
		indexes, _ := t.created["GlobalSecondaryIndexes"].([]any)
		for _, index := range indexes {
			index.(map[string]any)["IndexStatus"], index.(map[string]any)["Backfilling"] = "ACTIVE", false
		}
	}
}

// pageBytes is the most that a Scan or a Query returns.
const pageBytes = 1 << 20

func (d *Service) list(t *table, op string, in map[string]any) (map[string]any, error) {
	e := expressionOf(in)
	var conditions []func(Item) (bool, error)
	for _, field := range []string{"KeyConditionExpression", "FilterExpression"} {
		if text, _ := in[field].(string); text != "" {
			conditions = append(conditions, func(it Item) (bool, error) { return e.condition(text, it) })
		}
	}
	if keys, _ := in["KeyConditions"].(map[string]any); keys != nil {
		conditions = append(conditions, func(it Item) (bool, error) { return legacyCondition(keys, it) })
	}
	if op == "Query" && len(conditions) == 0 {
		return nil, refused("ValidationException", "a query needs a condition")
	}
	segments, _ := in["TotalSegments"].(float64)
	segment, _ := in["Segment"].(float64)
	start := Text(asItem(in["ExclusiveStartKey"])[t.key])
	indexed := ""
	if in["IndexName"] != nil {
		indexed = "leaseOwner"
	}
	found, bytes := []Item{}, 0
	out := make(map[string]any)
	for i, key := range slices.Sorted(maps.Keys(t.items)) {
		it := t.items[key]
		if key <= start || segments > 1 && i%int(segments) != int(segment) || indexed != "" && it[indexed] == nil {
			continue
		}
		all := true
		for _, condition := range conditions {
			is, err := condition(it)
			if err != nil {
				return nil, refused("ValidationException", err.Error())
			}
			all = all && is
		}
		if op == "Scan" || all {
			bytes += sizeOf(it)
		}
		if all {
			found = append(found, it)
		}
		if bytes > pageBytes {
			out["LastEvaluatedKey"] = Item{t.key: it[t.key]}
			break
		}
	}
	d.reads += readUnits(in, bytes)
	out["Items"], out["Count"], out["ScannedCount"] = found, len(found), len(found)
	return out, nil
}

func (d *Service) write(t *table, op string, in map[string]any) (map[string]any, error) {
	key := asItem(in["Key"])
	if op == "PutItem" {
		key = Item{t.key: asItem(in["Item"])[t.key]}
	}
	before := t.items[Text(key[t.key])]
	e := expressionOf(in)
	ok := true
	var err error
	if text, _ := in["ConditionExpression"].(string); text != "" {
		ok, err = e.condition(text, before)
	}
	if expected, _ := in["Expected"].(map[string]any); expected != nil && err == nil && ok {
		ok, err = legacyCondition(expected, before)
	}
	if err != nil {
		return nil, refused("ValidationException", err.Error())
	}
	if !ok {
		d.writes++
		failed := &dynamoError{code: "ConditionalCheckFailedException", message: "The conditional request failed"}
		if in["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD" {
			failed.row = before
		}
		return nil, failed
	}
	var after Item
	switch op {
	case "PutItem":
		after = asItem(in["Item"])
	case "UpdateItem":
		if after = maps.Clone(before); after == nil {
			after = maps.Clone(key)
		}
		if text, _ := in["UpdateExpression"].(string); text != "" {
			err = e.update(text, before, after)
		}
		if updates, _ := in["AttributeUpdates"].(map[string]any); updates != nil && err == nil {
			err = legacyUpdate(updates, after)
		}
		if err != nil {
			return nil, refused("ValidationException", err.Error())
		}
	}
	d.writes += float64((max(sizeOf(before), sizeOf(after)) + 1023) / 1024)
	if after == nil {
		delete(t.items, Text(key[t.key]))
	} else {
		t.items[Text(key[t.key])] = after
	}
	switch in["ReturnValues"] {
	case "ALL_OLD":
		return map[string]any{"Attributes": before}, nil
	case "ALL_NEW":
		return map[string]any{"Attributes": after}, nil
	}
	return map[string]any{}, nil
}

// legacyCondition checks a condition in the form that preceded expressions.
func legacyCondition(expected map[string]any, it Item) (bool, error) {
	for name, condition := range expected {
		c, _ := condition.(map[string]any)
		list, _ := c["AttributeValueList"].([]any)
		switch {
		case c["Value"] != nil:
			if !reflect.DeepEqual(it[name], asAttribute(c["Value"])) {
				return false, nil
			}
		case c["Exists"] == false:
			if it[name] != nil {
				return false, nil
			}
		case c["ComparisonOperator"] == "EQ" && len(list) == 1:
			if !reflect.DeepEqual(it[name], asAttribute(list[0])) {
				return false, nil
			}
		default:
			return false, fmt.Errorf("unsupported condition: %v", c)
		}
	}
	return true, nil
}

func legacyUpdate(updates map[string]any, it Item) error {
	for name, update := range updates {
		u, _ := update.(map[string]any)
		switch u["Action"] {
		case "DELETE":
			if u["Value"] != nil {
				return fmt.Errorf("unsupported update: %v", u)
			}
			delete(it, name)
		case "ADD":
			sum, err := addNumbers(it[name], asAttribute(u["Value"]))
			if err != nil {
				return err
			}
			it[name] = sum
		default:
			it[name] = asAttribute(u["Value"])
		}
	}
	return nil
}

func addNumbers(a, b Attribute) (Attribute, error) {
	sum := new(big.Int)
	for _, n := range []Attribute{a, b} {
		if n == nil {
			continue
		}
		digits, _ := n["N"].(string)
		value, ok := new(big.Int).SetString(digits, 10)
		if !ok {
			return nil, fmt.Errorf("ADD of %v", n)
		}
		sum.Add(sum, value)
	}
	return Attribute{"N": sum.String()}, nil
}

func asItem(v any) Item {
	fields, _ := v.(map[string]any)
	it := make(Item)
	for name, value := range fields {
		it[name] = asAttribute(value)
	}
	return it
}

func asAttribute(v any) Attribute {
	a, _ := v.(map[string]any)
	return a
}

// Text returns the value of a string attribute, "" for any other type.
func Text(a Attribute) string {
	s, _ := a["S"].(string)
	return s
}

// sizeOf returns approximately the size that the service counts.
func sizeOf(it Item) (n int) {
	for name, value := range it {
		n += len(name) + sizeOfValue(value)
	}
	return n
}

func sizeOfValue(value Attribute) (n int) {
	for kind, v := range value {
		switch v := v.(type) {
		case string:
			switch kind {
			case "N":
				n += len(v)/2 + 2
			case "B":
				n += len(v) * 3 / 4
			default:
				n += len(v)
			}
		case []any:
			for _, one := range v {
				text, _ := one.(string)
				n += len(text)
			}
		case map[string]any:
			n += 3
			for name, one := range v {
				n += 1 + len(name) + sizeOfValue(asAttribute(one))
			}
		default:
			n++
		}
	}
	return n
}

// readUnits returns the cost of reading that many bytes.
func readUnits(in map[string]any, bytes int) float64 {
	units := float64(max(1, (bytes+4095)/4096))
	if in["ConsistentRead"] == true {
		return units
	}
	return units / 2
}
