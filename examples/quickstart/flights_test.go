package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The expected figures were computed by another program from the source of the table,
// flights-20k.json, not from the table itself: counts of its rows by origin, and sums of
// its columns.
func TestFlightsAreThoseOfTheSource(t *testing.T) {
	all, err := flights()
	require.NoError(t, err)
	require.Len(t, all, 20_000)

	delay, distance := 0, 0
	late := 0
	perMonth := map[time.Month]int{}
	perOrigin, destinations := map[string]int{}, map[string]bool{}
	for _, f := range all {
		delay += f.DelayMinutes
		distance += f.DistanceMiles
		if f.DelayMinutes > 0 {
			late++
		}
		perMonth[f.Departure.Month()]++
		perOrigin[f.Origin]++
		destinations[f.Destination] = true
	}
	require.Equal(t, 154_078, delay)
	require.Equal(t, 14_476_934, distance)
	require.Equal(t, 9_493, late)
	require.Equal(t, map[time.Month]int{time.January: 6937, time.February: 5964, time.March: 7099}, perMonth)
	require.Len(t, perOrigin, 220)
	require.Len(t, destinations, 223)
	for origin, count := range map[string]int{"DFW": 1103, "ORD": 1095, "ATL": 846, "LAX": 777, "HNL": 132, "ANC": 58, "DRO": 1} {
		require.Equal(t, count, perOrigin[origin], origin)
	}
}

func TestFlightsAreInOrderOfDeparture(t *testing.T) {
	all, err := flights()
	require.NoError(t, err)
	require.True(t, slices.IsSortedFunc(all, func(a, b Flight) int { return a.Departure.Compare(b.Departure) }))

	first, last := all[0], all[len(all)-1]
	require.Equal(t, Flight{time.Date(2001, 1, 1, 0, 47, 0, 0, time.UTC), 66, 1750, "DTW", "LAS"}, first)
	require.Equal(t, Flight{time.Date(2001, 3, 31, 22, 27, 0, 0, time.UTC), -9, 83, "CLT", "GSO"}, last)
}

func TestParseFlightRefusesWhatIsNoFlight(t *testing.T) {
	good := []string{"2001/01/01 00:47", "66", "1750", "DTW", "LAS"}
	_, err := parseFlight(good)
	require.NoError(t, err)
	for column, bad := range []string{"2001-01-01", "", "far"} {
		row := slices.Clone(good)
		row[column] = bad
		_, err := parseFlight(row)
		require.Error(t, err, "column %d", column)
	}
}
