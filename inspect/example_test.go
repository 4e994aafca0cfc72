package inspect_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
)

// The page with the application's own authentication in front of it.
func ExampleHandler() {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	known := func(user, password string) bool { return user == "ops" && password == "secret" }

	page := inspect.Handler(db, &inspect.Options{
		Hosts: []string{"braid.example.com"}, // beside localhost and addresses
		Authorize: func(r *http.Request) error {
			if user, password, ok := r.BasicAuth(); !ok || !known(user, password) {
				return inspect.Challenge(`Basic realm="braid"`)
			}
			return nil
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/braid/", http.StripPrefix("/braid", page))

	for _, password := range []string{"guessed", "secret"} {
		r := httptest.NewRequest("GET", "http://braid.example.com/braid/api/streams", nil)
		r.SetBasicAuth("ops", password)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}
