package server

import (
	"encoding/json"
	"net/http"
)

// answerPlain answers a request of type application/json, the type of an older AWS
// protocol. The service has no operations of that protocol.
func answerPlain(rep *reply, body []byte) {
	rep.set("Content-Type", typePlain)
	rep.status, rep.errorType = http.StatusNotFound, "UnknownOperationException"
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object == nil {
		rep.status, rep.errorType = http.StatusBadRequest, "SerializationException"
	}
	rep.body = append(rep.body, `{"Output":{"__type":"com.amazon.coral.service#`+rep.errorType+`"},"Version":"1.0"}`...)
}

// allowOrigin sets the CORS headers for scripts of web pages. It reports whether the
// request is a CORS preflight.
func allowOrigin(r *http.Request, rep *reply) (preflight bool) {
	if r.Header.Get("Origin") == "" {
		return false
	}
	rep.set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodOptions {
		rep.set("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date")
		return false
	}
	if headers := r.Header.Get("Access-Control-Request-Headers"); headers != "" {
		rep.set("Access-Control-Allow-Headers", headers)
	}
	if method := r.Header.Get("Access-Control-Request-Method"); method != "" {
		rep.set("Access-Control-Allow-Methods", method)
	}
	rep.set("Access-Control-Max-Age", "172800")
	return true
}
