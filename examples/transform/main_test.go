package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryOrderHasOneInvoice(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `The database was closed under the worker, with a part of the orders invoiced.
It was opened again, and the worker continued until all of them were.
5000 orders, 5000 invoices:
  customer-0  1250 orders
  customer-1  1250 orders
  customer-2  1250 orders
  customer-3  1250 orders
`, out.String())
}
