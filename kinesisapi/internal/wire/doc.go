// Package wire converts the documents of the Kinesis protocol, JSON 1.1 and CBOR, to plain
// Go structs and back. It also has the constraints on request members, with the texts in
// which the service reports them.
//
// A request passes three stages, in this order:
//
//   - [ParseJSON] or [ParseCBOR] parses a body. It fails if the body is not a document.
//   - [Bind] copies the document into a struct. It fails if a member has the wrong type.
//   - [Validate] checks the constraints on the struct. It reports all failures together.
//
// A response goes through [AppendJSON] or [AppendCBOR].
//
// # Structs
//
// The name of a field is the name of the member. Members of requests may have the types
// *string, *int32, *int64, *bool, *time.Time, []byte, []string, map[string]string, a slice
// of structs, or a pointer to a struct. Nil means absent. A slice that is empty but not nil
// is present.
//
// Responses may also have members of the types string, int32, int64, bool, time.Time and
// struct. Such members are always written.
//
// A field tag `kinesis:"required,StreamName"` means that the member must be present,
// or names the shape whose constraints it must meet, or both. A struct that this
// package cannot handle panics on first use.
package wire
