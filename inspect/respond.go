package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/errorkind"
)

// failure is the answer to a request that was refused or has failed.
type failure struct {
	Error  string
	Kind   string
	Type   string `json:",omitempty"` // of Detail, such as "TrimmedError"
	Detail error  `json:",omitempty"` // a typed error of package braid or queue
}

// statusError is an error of this package.
type statusError struct {
	status     int
	kind, text string
}

func (e *statusError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, "InvalidArgument", fmt.Sprintf(format, args...)}
}

// failureOf returns the status and the body of the answer to a request that failed with err.
func failureOf(err error) (status int, f failure) {
	f = failure{Error: err.Error(), Kind: "Internal"}
	status = http.StatusInternalServerError
	var own *statusError
	if errors.As(err, &own) {
		status, f.Kind = own.status, own.kind
	} else if k, ok := errorkind.Of(err); ok {
		status, f.Kind = k.Status, k.Name
	}
	if name, detail := errorkind.DetailOf(err); detail != nil {
		f.Type, f.Detail = name, detail
	}
	return status, f
}

func isClosed(err error) bool { return errors.Is(err, braid.ErrClosed) }

// refusal is the error of a request that the application does not allow.
func refusal(w http.ResponseWriter, err error) error {
	var challenge Challenge
	if errors.As(err, &challenge) {
		w.Header().Set("WWW-Authenticate", string(challenge))
		return &statusError{http.StatusUnauthorized, "Unauthorized", err.Error()}
	}
	return forbidden("Forbidden", "%s", err)
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Cause(r.Context())) {
		return // the client has gone
	}
	status, f := failureOf(err)
	writeJSON(w, status, f)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil { // cannot happen for values that clients can cause
		status, text = http.StatusInternalServerError, []byte(`{"Error":"the answer cannot be marshaled","Kind":"Internal"}`)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may have hung up
}

// number reads a parameter that is a number from low to high.
func number(r *http.Request, name string, absent, low, high int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, badRequest("%s is %.40q; it must be a number from %d to %d", name, text, low, high)
	}
	return n, nil
}

// flag reads a parameter that is true or false; the default is false.
func flag(r *http.Request, name string) (bool, error) {
	switch text := r.URL.Query().Get(name); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, badRequest("%s is %.40q; it must be true or false", name, text)
	}
}

// onlyParameters refuses parameters that the path does not have, since they are probably
// misspelled.
func onlyParameters(r *http.Request, names ...string) error {
next:
	for name := range r.URL.Query() {
		for _, known := range names {
			if name == known {
				continue next
			}
		}
		return badRequest("unknown parameter %.40q; the parameters here are %q", name, names)
	}
	return nil
}
