package kinesistest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/braidstream/braid/queue"
)

// Bounds of the output.
const (
	maxShown      = 20 // lines
	maxShownBytes = 40 // of a record's data, or a key
)

// quoted shows data or a key.
func quoted(data string) string {
	if len(data) > maxShownBytes {
		return fmt.Sprintf("%q… (%d bytes)", data[:maxShownBytes], len(data))
	}
	return fmt.Sprintf("%q", data)
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(" %d times", n)
}

// listed shows the elements of a list in one line.
func listed(list []string) string {
	var text strings.Builder
	for i, data := range list {
		if i == maxShown {
			fmt.Fprintf(&text, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			text.WriteByte(' ')
		}
		text.WriteString(quoted(data))
	}
	return text.String()
}

// keyRecords are the data of the records of a partition key, in their order.
type keyRecords struct {
	key  string
	data []string
}

// keysOf groups records by key. The keys are in the order of their first records.
func keysOf(records []Record) (keys []keyRecords) {
	index := make(map[string]int)
	for i := range records {
		rec := &records[i]
		at, ok := index[rec.PartitionKey]
		if !ok {
			at = len(keys)
			index[rec.PartitionKey] = at
			keys = append(keys, keyRecords{key: rec.PartitionKey})
		}
		keys[at].data = append(keys[at].data, rec.Data)
	}
	return keys
}

// ordersOf is keysOf, except that each record without a partition key is a group of its
// own: such records have no order.
func ordersOf(records []Record) (orders []keyRecords) {
	for _, key := range keysOf(records) {
		if key.key != "" {
			orders = append(orders, key)
			continue
		}
		for i := range key.data {
			orders = append(orders, keyRecords{data: key.data[i : i+1]})
		}
	}
	return orders
}

// holds shows records, by shard and key.
func holds(records []Record) string {
	if len(records) == 0 {
		return "  it holds no records\n"
	}
	shards := make(map[string][]Record)
	for _, rec := range records {
		shards[rec.Shard] = append(shards[rec.Shard], rec)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "  it holds %s:\n", counted(len(records), "record"))
	lines := 0
	for _, id := range slices.Sorted(maps.Keys(shards)) {
		for _, key := range keysOf(shards[id]) {
			if lines == maxShown {
				text.WriteString("    …\n")
				return text.String()
			}
			lines++
			fmt.Fprintf(&text, "    %s key %s: %s\n", id, quoted(key.key), listed(key.data))
		}
	}
	return text.String()
}

// counted returns a number and its noun, in the plural unless n is 1.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// summary describes streams, queues and calls after a failed test. It never fails the test
// itself, because the kit still has to be closed.
func (l *life) summary(calls []string) string {
	var text strings.Builder
	text.WriteString("state at the end of the failed test\n")
	skipped := max(0, len(calls)-maxShown)
	fmt.Fprintf(&text, "  calls: %d\n", len(calls))
	if skipped > 0 {
		fmt.Fprintf(&text, "    … %d more, and then\n", skipped)
	}
	for _, line := range calls[skipped:] {
		fmt.Fprintf(&text, "    %s\n", line)
	}
	for _, s := range l.db.Streams() {
		records, err := recordsOf(s)
		fmt.Fprintf(&text, "  stream %s, %s\n%s", s.Name(), counted(len(s.Shards()), "shard"), holds(records))
		if err != nil {
			fmt.Fprintf(&text, "  and cannot be read further: %v\n", err)
		}
	}
	queues, err := queue.List(always, l.db, "")
	if err != nil {
		fmt.Fprintf(&text, "  queues cannot be listed: %v\n", err)
	}
	for _, q := range queues {
		d, err := q.Describe(always)
		if err != nil {
			fmt.Fprintf(&text, "  queue %s cannot be described: %v\n", q.Name(), err)
			continue
		}
		fmt.Fprintf(&text, "  queue %s of %s: %d visible, %d in flight, %s\n",
			q.Name(), q.Stream().Name(), d.Visible+d.Delayed+d.Held, d.InFlight, counted(int(d.Dead), "dead letter"))
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// shown returns a line for each call.
func (g *log) shown() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := make([]string, len(g.calls))
	for i, c := range g.calls {
		lines[i] = c.time.Format("15:04:05.000 ") + c.operation
		if c.err != "" {
			lines[i] += ": " + c.err
		}
		if len(c.refused) > 0 {
			lines[i] += fmt.Sprintf(": refused entries %v", c.refused)
		}
	}
	return lines
}
