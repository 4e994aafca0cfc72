package kinesisapi_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// TestRawShardLimit: DescribeLimits and the error of a request for too many shards show the
// same number, which is the enforced limit if there is one.
func TestRawShardLimit(t *testing.T) {
	for _, c := range []struct {
		name    string
		options kinesisapi.Options
		limit   int
		most    int // shards that an account of one stream can have
	}{
		{"large region", kinesisapi.Options{}, 20_000, 10_000},
		{"small region", kinesisapi.Options{Region: "eu-central-1"}, 1_000, 10_000},
		{"exact", kinesisapi.Options{Region: "eu-central-1", ExactLimits: true}, 1_000, 1_000},
		{"option", kinesisapi.Options{ShardLimit: 7}, 7, 7},
		{"option and exact", kinesisapi.Options{ShardLimit: 1_500, Region: "eu-central-1", ExactLimits: true}, 1_500, 1_500},
		{"off", kinesisapi.Options{ShardLimit: -1, Region: "eu-central-1", ExactLimits: true}, 1_000_000, 10_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			rigInBubble(t, &c.options, func(r *rig) {
				require.EqualValues(r.t, c.limit, r.does("DescribeLimits", `{}`)["ShardLimit"])
				create := func(n int) answer {
					return r.call("CreateStream", fmt.Sprintf(`{"StreamName":"s%d","ShardCount":%d}`, n, n))
				}
				for _, n := range []int{c.most + 1, max(c.limit, 10_000) + 1, 2_000_000} {
					a := create(n)
					require.Equal(r.t, 400, a.status, n)
					require.Contains(r.t, a.body, `"__type":"LimitExceededException"`)
					said := regexp.MustCompile(`Limit: (\d+)|more than (\d+) shards`).FindStringSubmatch(a.body)
					require.NotNil(r.t, said, a.body)
					if said[1] != "" {
						require.Equal(r.t, strconv.Itoa(c.limit), said[1], a.body)
					} else {
						require.Equal(r.t, "10000", said[2], a.body)
						require.LessOrEqual(r.t, n, c.limit, "the account's limit is said where it is what is in the way")
					}
				}
				if c.limit > 7 {
					return // it would only take long
				}
				for _, n := range []int{c.most - 1, 1} {
					require.Equal(r.t, 200, create(n).status)
				}
				require.Contains(r.t, create(2).body, "Current shard count for the account: 7. Limit: 7. Number of additional shards that would have resulted from this request: 2.")
			})
		})
	}
}

func TestRawOnDemandStreamLimit(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{OnDemandStreamLimit: 2}, func(r *rig) {
		require.EqualValues(r.t, 2, r.does("DescribeLimits", `{}`)["OnDemandStreamCountLimit"])
		r.does("CreateStream", `{"StreamName":"a"}`)
		r.does("CreateStream", `{"StreamName":"b"}`)
		r.isError(r.call("CreateStream", `{"StreamName":"c"}`), "LimitExceededException", "Account 000000000000 in us-east-1 cannot have more on-demand streams. Current count: 2. Limit: 2.")
		r.does("CreateStream", `{"StreamName":"c","ShardCount":1}`)
		mode := func(name, mode string) string {
			return fmt.Sprintf(`{"StreamARN":%q,"StreamModeDetails":{"StreamMode":%q}}`, streamARN+name, mode)
		}
		r.isError(r.call("UpdateStreamMode", mode("c", "ON_DEMAND")), "LimitExceededException", "Account 000000000000 in us-east-1 cannot have more on-demand streams. Current count: 2. Limit: 2.")
		r.does("UpdateStreamMode", mode("a", "ON_DEMAND"))
		r.does("UpdateStreamMode", mode("a", "PROVISIONED"))
		r.does("UpdateStreamMode", mode("c", "ON_DEMAND"))
	})
}

// An error names the field of Options.
func TestRawOptionsHaveLimits(t *testing.T) {
	r := newRig(t, nil)
	for field, options := range map[string]kinesisapi.Options{
		"Account":             {Account: "12345678901"},
		"Region":              {Region: "US-EAST-1"},
		"ShardLimit":          {ShardLimit: 1_000_001},
		"OnDemandStreamLimit": {OnDemandStreamLimit: 1_000_001},
		"CreateDelay":         {CreateDelay: -1},
		"UpdateDelay":         {UpdateDelay: -1},
		"DeleteDelay":         {DeleteDelay: -1},
	} {
		_, err := kinesisapi.New(r.db, &options)
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid, field)
		require.Equal(t, field, invalid.Field)
		require.EqualValues(t, reflect.ValueOf(options).FieldByName(field).Interface(), invalid.Value)
	}
}
