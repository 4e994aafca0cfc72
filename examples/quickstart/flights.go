package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/braidstream/braid"
)

// flightsData is a table of 20,000 flights: compressed CSV with a header. gen.go has made
// it; NOTICE.md names the source of the flights.
//
//go:embed flights.csv.gz
var flightsData []byte

// departureLayout is the format of times in the table: the airport's local time, to the
// minute.
const departureLayout = "2006/01/02 15:04"

// Flight is one departure of a domestic flight in the United States.
type Flight struct {
	Departure     time.Time // local time of the origin, given as if it were UTC
	DelayMinutes  int       // negative when early
	DistanceMiles int
	Origin        string // airport code, such as "ATL"
	Destination   string // airport code
}

// String describes the flight for people.
func (f Flight) String() string {
	return fmt.Sprintf("%s-%s of %s, %+d min", f.Origin, f.Destination, f.Departure.Format("2 January 15:04"), f.DelayMinutes)
}

// encode returns the flight as the data of a record. braid stores bytes; the application
// gives them a meaning.
func (f Flight) encode() []byte {
	data, err := json.Marshal(f)
	if err != nil {
		panic(err) // a struct of plain fields always encodes
	}
	return data
}

// decodeFlight is the inverse of encode.
func decodeFlight(rec braid.Record) (f Flight, err error) {
	if err := json.Unmarshal(rec.Data, &f); err != nil {
		return f, fmt.Errorf("record %s: %w", rec.SequenceNumber, err)
	}
	return f, nil
}

// flights returns all flights of the table, in order of departure.
func flights() ([]Flight, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(flightsData))
	if err != nil {
		return nil, fmt.Errorf("open the flights: %w", err)
	}
	table := csv.NewReader(unzipped)
	table.FieldsPerRecord = 5
	table.ReuseRecord = true // the strings of a row stay valid; only the slice is reused
	if _, err := table.Read(); err != nil {
		return nil, fmt.Errorf("read the header of the flights: %w", err)
	}
	all := make([]Flight, 0, 20_000)
	for {
		row, err := table.Read()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read flight %d: %w", len(all)+1, err)
		}
		f, err := parseFlight(row)
		if err != nil {
			return nil, fmt.Errorf("flight %d: %w", len(all)+1, err)
		}
		all = append(all, f)
	}
}

// parseFlight reads a row: departure, delay, distance, origin, destination.
func parseFlight(row []string) (f Flight, err error) {
	if f.Departure, err = time.Parse(departureLayout, row[0]); err != nil {
		return f, err
	}
	if f.DelayMinutes, err = strconv.Atoi(row[1]); err != nil {
		return f, err
	}
	if f.DistanceMiles, err = strconv.Atoi(row[2]); err != nil {
		return f, err
	}
	f.Origin, f.Destination = row[3], row[4]
	return f, nil
}
