//go:build ignore

// This program makes flights.csv.gz from the file flights-20k.json of the data
// collection vega-datasets 3.2.1:
//
//	go run gen.go path/to/flights-20k.json
package main

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run gen.go path/to/flights-20k.json")
		os.Exit(2)
	}
	if err := generate(os.Args[1], "flights.csv.gz"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var rows []struct {
		Date                string
		Delay, Distance     int
		Origin, Destination string
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	table := [][]string{{"departure", "delay", "distance", "origin", "destination"}}
	for _, r := range rows {
		table = append(table, []string{r.Date, strconv.Itoa(r.Delay), strconv.Itoa(r.Distance), r.Origin, r.Destination})
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(write(file, table), file.Close())
}

func write(w io.Writer, table [][]string) error {
	zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	return errors.Join(csv.NewWriter(zipped).WriteAll(table), zipped.Close())
}
