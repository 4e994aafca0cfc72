package server

import (
	"encoding/json"
	"net/http"

	"github.com/fxamacker/cbor/v2"

	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// errorDocument is an error as answers and frames contain it.
type errorDocument struct {
	Type    string `json:"__type,omitempty" cbor:"__type,omitempty"`
	Message string `json:"message,omitempty" cbor:"message,omitempty"`
	Capital string `json:"Message,omitempty" cbor:"Message,omitempty"` // of a SerializationException
}

func (d *errorDocument) encode(codec *codec) []byte {
	marshal := json.Marshal
	if codec == &codecCBOR {
		marshal = cbor.Marshal
	}
	body, err := marshal(d)
	if err != nil {
		panic(err) // three strings
	}
	return body
}

// failWith makes the answer an error of the service. A failure of the server has no
// message.
func (r *reply) failWith(codec *codec, e *service.Error) {
	d := errorDocument{Type: e.Type, Message: e.Message}
	if e.Status >= http.StatusInternalServerError {
		d.Message = ""
	}
	r.fail(codec, e.Status, d)
}

func (r *reply) fail(codec *codec, status int, d errorDocument) {
	r.status, r.errorType = status, d.Type
	r.set("X-Amzn-Errortype", d.Type) // also in the body, but some clients look here first
	r.set("Content-Type", codec.contentType)
	r.body = d.encode(codec)
}

// unnamed answers a request that names no operation.
func (r *reply) unnamed() {
	r.status = http.StatusForbidden
	r.body = append(r.body, "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"...)
}
