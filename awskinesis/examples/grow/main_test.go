package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// shop runs the program three times, each time with some new orders and some that it already has,
// and requires exactly one invoice for each.
func shop(t *testing.T, open func() (*platform, error), invoices func() map[string]string) {
	t.Helper()
	want := make(map[string]string)
	for round := range 3 {
		p, err := open()
		require.NoError(t, err)
		var saves atomic.Int64
		save := p.save
		p.save = func(ctx context.Context, id, invoice string) error {
			if err := save(ctx, id, invoice); err != nil {
				return err
			}
			if saves.Add(1) == 7 { // in the middle of a batch, or after it
				return fmt.Errorf("order %s: the answer was lost", id)
			}
			return nil
		}
		var in, out strings.Builder
		for n := 30 * round; n < 30*round+40; n++ {
			fmt.Fprintf(&in, "order-%d customer-%d %d.90\n", n, n%7, n)
			want[fmt.Sprint("order-", n)] = fmt.Sprintf("customer-%d pays %d.90", n%7, n)
		}
		require.NoError(t, run(t.Context(), p, strings.NewReader(in.String()), &out))
		require.Equal(t, "40 orders were put, and all have an invoice\n", out.String())
		require.NoError(t, p.close())
		require.Greater(t, saves.Load(), int64(40), "what failed is done again")
		require.Equal(t, want, invoices())
	}
}

func TestOnADirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		shop(t, func() (*platform, error) { return openDirectory(t.Context(), dir) }, func() map[string]string {
			db, err := braid.Open(dir, nil)
			require.NoError(t, err)
			defer db.Close() // nothing was written
			found := make(map[string]string)
			require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
				for item, err := range tx.Scan([]byte("invoice/"), []byte("invoice0")) {
					if err != nil {
						return err
					}
					found[strings.TrimPrefix(string(item.Key), "invoice/")] = string(item.Value)
				}
				return nil
			}))
			return found
		})
	})
}

func TestOnKinesis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kit, tables := kinesistest.New(t, kinesistest.Stream("orders", 3)), dynamotest.New()
		tables.AddTable("invoices", "id")
		shop(t, func() (*platform, error) {
			kit.DropAfter("PutRecords", 2) // these orders are stored twice
			kit.FailEntries("ProvisionedThroughputExceededException", 0)
			return openKinesis(t.Context(), kit.Kinesis(), tables.Client())
		}, func() map[string]string {
			found := make(map[string]string)
			for id, row := range tables.Items("invoices") {
				found[id] = dynamotest.Text(row["invoice"])
			}
			return found
		})
		require.Greater(t, len(kit.Records("orders")), 3*40, "answers were lost")
	})
}

func TestAnOrderThatIsNone(t *testing.T) {
	p, err := openDirectory(t.Context(), t.TempDir())
	require.NoError(t, err)
	err = run(t.Context(), p, strings.NewReader("order-1 customer-1 1.90\norder-2\n"), new(strings.Builder))
	require.ErrorContains(t, err, `an order is an id, a customer and an amount: "order-2"`)
	require.NoError(t, p.close())
}
