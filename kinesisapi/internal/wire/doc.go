// Package wire turns the documents of the Kinesis protocol into plain Go structs
// and back: JSON 1.1 and CBOR. It also holds the constraints on request members,
// with the texts in which the service reports them.
//
// A request passes three stages, in this order:
//
//   - [ParseJSON] or [ParseCBOR] finds the structure of a body. What fails here is
//     not a document at all.
//   - [Bind] puts the document into a struct. What fails here has the wrong type.
//   - [Validate] looks at the struct. What fails here breaks a constraint, and all
//     such failures are reported together.
//
// A response goes through [AppendJSON] or [AppendCBOR].
//
// # Structs
//
// The name of a field is the name of the member. Members of requests have the types
// *string, *int32, *int64, *bool, *time.Time, []byte, []string, map[string]string, a
// slice of structs, or a pointer to a struct. Nil means absent. A slice that is empty
// but not nil is present.
//
// Responses may also have the types string, int32, int64, bool, time.Time and struct.
// Such members are always written.
//
// A field tag `kinesis:"required,StreamName"` means that the member must be present,
// or names the shape whose constraints it must meet, or both. A struct that this
// package cannot handle panics on first use.
package wire
