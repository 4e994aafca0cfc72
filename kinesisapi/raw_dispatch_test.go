package kinesisapi_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

const (
	deniedXML  = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"
	unknownXML = "<UnknownOperationException/>\n"
)

func plain(name string) string {
	return `{"Output":{"__type":"com.amazon.coral.service#` + name + `"},"Version":"1.0"}`
}

func cborError(name string) string {
	data, err := cbor.Marshal(map[string]string{"__type": name})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// The checks of odd requests have the service's order: each row here also has all faults of
// the later rows.
func TestRawDispatchOrder(t *testing.T) {
	const known, unknown, foreign = "Kinesis_20131202.ListStreams", "Kinesis_20131202.Nothing", "DynamoDB_20120810.ListTables"
	rows := []struct {
		name                 string
		method, path         string
		contentType, target  string
		body                 string
		status               int
		answerType, wantBody string
	}{
		{"not POST", "GET", "", typeJSON, known, "", 403, "", deniedXML},
		{"PUT", "PUT", "", typeJSON, known, "{}", 403, "", deniedXML},
		{"DELETE", "DELETE", "", "", "", "", 403, "", deniedXML},
		{"OPTIONS without an origin", "OPTIONS", "", "", "", "", 403, "", deniedXML},
		{"empty, operation", "POST", "", typeJSON, known, "", 400, typeJSON, `{"__type":"SerializationException"}`},
		{"empty, no operation", "POST", "", typeJSON, unknown, "", 400, typeJSON, `{"__type":"UnknownOperationException"}`},
		{"empty, nothing at all", "POST", "", "", "", "", 400, typeCBOR, cborError("UnknownOperationException")},
		{"empty, foreign", "POST", "", "", foreign, "", 400, typeCBOR, cborError("UnknownOperationException")},
		{"empty, other type", "POST", "", "text/plain", known, "", 400, typeCBOR, cborError("SerializationException")},
		{"empty, plain JSON", "POST", "", "application/json", known, "", 400, typeCBOR, cborError("SerializationException")},
		{"empty, CBOR", "POST", "", typeCBOR, known, "", 400, typeCBOR, cborError("SerializationException")},
		{"unknown type, no target", "POST", "", "text/plain", "", "{}", 403, "", deniedXML},
		{"unknown type, target without dot", "POST", "", "text/plain", "ListStreams", "{}", 403, "", deniedXML},
		{"no type, no target", "POST", "", "", "", "{", 403, "", deniedXML},
		{"unknown type, target", "POST", "", "text/plain", known, "{", 404, "", unknownXML},
		{"no type, target", "POST", "", "", known, "{}", 404, "", unknownXML},
		{"unknown type, unknown target", "POST", "", "text/plain", "a.b", "{}", 404, "", unknownXML},
		{"form", "POST", "", "application/x-www-form-urlencoded", known, "Action=ListStreams", 404, "", unknownXML},
		{"not JSON", "POST", "", typeJSON, known, "{", 400, typeJSON, `{"__type":"SerializationException"}`},
		{"not JSON, unknown", "POST", "", typeJSON, unknown, "hello", 400, typeJSON, `{"__type":"SerializationException"}`},
		{"not an object", "POST", "", typeJSON, known, "[]", 400, typeJSON, `{"__type":"SerializationException"}`},
		{"null", "POST", "", typeJSON, known, "null", 400, typeJSON, `{"__type":"SerializationException"}`},
		{"two objects", "POST", "", typeJSON, known, "{}{}", 400, typeJSON, `{"__type":"SerializationException"}`},
		{"JSON as CBOR", "POST", "", typeCBOR, known, "{}", 400, typeCBOR, cborError("SerializationException")},
		{"not CBOR", "POST", "", typeCBOR, known, "\xff", 400, typeCBOR, cborError("SerializationException")},
		{"CBOR list", "POST", "", typeCBOR, known, "\x80", 400, typeCBOR, cborError("SerializationException")},
		{"plain, not JSON", "POST", "", "application/json", known, "{", 400, "application/json", plain("SerializationException")},
		{"plain, not an object", "POST", "", "application/json", "", "[]", 400, "application/json", plain("SerializationException")},
		{"plain, null", "POST", "", "application/json", known, "null", 400, "application/json", plain("SerializationException")},
		{"plain", "POST", "", "application/json", known, "{}", 404, "application/json", plain("UnknownOperationException")},
		{"plain, no target", "POST", "", "application/json;charset=utf-8", "", `{"a":1}`, 404, "application/json", plain("UnknownOperationException")},
		{"unknown operation", "POST", "", typeJSON, unknown, "{}", 400, typeJSON, `{"__type":"UnknownOperationException"}`},
		{"no target", "POST", "", typeJSON, "", "{}", 400, typeJSON, `{"__type":"UnknownOperationException"}`},
		{"operation alone", "POST", "", typeJSON, "ListStreams", "{}", 400, typeJSON, `{"__type":"UnknownOperationException"}`},
		{"foreign", "POST", "", typeJSON, foreign, "{}", 400, typeJSON, `{"__type":"UnknownOperationException"}`},
		{"other case", "POST", "", typeJSON, "Kinesis_20131202.listStreams", "{}", 400, typeJSON, `{"__type":"UnknownOperationException"}`},
		{"unknown in CBOR", "POST", "", typeCBOR, unknown, "\xa0", 400, typeCBOR, cborError("UnknownOperationException")},
		{
			"type of a member", "POST", "", typeJSON, known, `{"Limit":"a","NextToken":""}`, 400, typeJSON,
			`{"__type":"SerializationException","Message":"class java.lang.String can not be converted to an Integer"}`,
		},
		{
			"constraint", "POST", "", typeJSON, known, `{"Limit":0}`, 400, typeJSON,
			`{"__type":"ValidationException","message":"1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"}`,
		},
		{
			"any path", "POST", "/some/where?a=b", typeJSON, known, "{}", 200, typeJSON,
			`{"HasMoreStreams":false,"StreamNames":[],"StreamSummaries":[]}`,
		},
		{
			"parameters of the type", "POST", "", typeJSON + "; charset=utf-8", known, `{"Unknown":[1,{}],"Limit":null}`, 200, typeJSON,
			`{"HasMoreStreams":false,"StreamNames":[],"StreamSummaries":[]}`,
		},
	}
	r := newRig(t, nil)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	over := *r
	over.client, over.url = listener.Client(), listener.URL+"/"
	secure := httptest.NewUnstartedServer(r.server)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	over2 := *r
	over2.client, over2.url = secure.Client(), secure.URL+"/"
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var headers []string
			if row.contentType != "" {
				headers = append(headers, "Content-Type", row.contentType)
			}
			if row.target != "" {
				headers = append(headers, "X-Amz-Target", row.target)
			}
			for _, r := range []*rig{r, &over, &over2} {
				a := r.send(row.method, row.path, row.body, headers...)
				require.Equal(t, row.status, a.status, a.body)
				require.Equal(t, row.wantBody, a.body)
				if row.answerType == "" {
					require.NotContains(t, a.header, "Content-Type")
				} else {
					require.Equal(t, []string{row.answerType}, a.header.Values("Content-Type"))
				}
				if row.status == 400 && row.answerType != "application/json" {
					require.Contains(t, a.body, a.header.Get("X-Amzn-Errortype"))
					require.NotEmpty(t, a.header.Get("X-Amzn-Errortype"))
				}
				requireIDs(t, a.header)
			}
		})
	}
}

// requireIDs checks the request ids of an answer.
func requireIDs(t *testing.T, header http.Header) {
	id, err := uuid.Parse(header.Get("x-amzn-RequestId"))
	require.NoError(t, err)
	require.EqualValues(t, 4, id.Version())
	id2, err := base64.StdEncoding.DecodeString(header.Get("x-amz-id-2"))
	require.NoError(t, err)
	require.Len(t, id2, 72)
}

func TestRawIdentifiersDiffer(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.call("ListStreams", "{}"), r.call("ListStreams", "{}")
	require.NotEqual(t, a.header.Get("x-amzn-RequestId"), b.header.Get("x-amzn-RequestId"))
	require.NotEqual(t, a.header.Get("x-amz-id-2"), b.header.Get("x-amz-id-2"))
}

// Scripts of web pages may call the server, whatever the answer to a request.
func TestRawCORS(t *testing.T) {
	const exposed = "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date"
	r := newRig(t, &kinesisapi.Options{CheckAuthorization: true})

	a := r.send("OPTIONS", "/", "", "Origin", "http://example.com",
		"Access-Control-Request-Headers", "x-amz-target, content-type", "Access-Control-Request-Method", "POST")
	require.Equal(t, 200, a.status)
	require.Empty(t, a.body)
	_, err := uuid.Parse(a.header.Get("x-amzn-RequestId"))
	require.NoError(t, err)
	a.header.Del("x-amzn-RequestId")
	require.Equal(t, http.Header{
		"Access-Control-Allow-Origin":  {"*"},
		"Access-Control-Allow-Headers": {"x-amz-target, content-type"},
		"Access-Control-Allow-Methods": {"POST"},
		"Access-Control-Max-Age":       {"172800"},
	}, a.header, "no x-amz-id-2, and nothing exposed")

	a = r.send("OPTIONS", "/", "", "Origin", "null")
	require.Equal(t, 200, a.status)
	require.NotContains(t, a.header, "Access-Control-Allow-Headers")
	require.NotContains(t, a.header, "Access-Control-Allow-Methods")

	for name, send := range map[string]func() answer{
		"denied":  func() answer { return r.send("GET", "/", "", "Origin", "http://example.com") },
		"unknown": func() answer { return r.send("POST", "/", "", "Origin", "http://example.com") },
		"unauthorized": func() answer {
			return r.send("POST", "/", "{}", "Origin", "a", "Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202.ListStreams")
		},
	} {
		a := send()
		require.NotEqual(t, 200, a.status, name)
		require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"), name)
		require.Equal(t, exposed, a.header.Get("Access-Control-Expose-Headers"), name)
		require.NotContains(t, a.header, "Access-Control-Max-Age", name)
		requireIDs(t, a.header)
	}

	a = r.send("GET", "/", "")
	require.NotContains(t, a.header, "Access-Control-Allow-Origin")
}

// With CheckAuthorization, a request without a complete signature is refused. This check
// comes after that of the operation's name, and before those of members.
func TestRawAuthorization(t *testing.T) {
	const whole = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=b"
	query := func(names ...string) string {
		var parts []string
		for _, name := range names {
			parts = append(parts, name+"=x")
		}
		return "/?" + strings.Join(parts, "&")
	}
	lacks := func(names ...string) (text string) {
		for _, name := range names {
			text += "AWS query-string parameters must include '" + name + "'. "
		}
		return text + "Re-examine the query-string parameters."
	}
	rows := []struct {
		name, path, authorization, date string
		errorType, message              string
	}{
		{"both", query("X-Amz-Algorithm"), "x", "", "InvalidSignatureException", "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		{"neither", "/", "", "", "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{"neither, but other parameters", query("X-Amz-Signature"), "", "", "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{
			"nothing in the header", "/", "BAD", "", "IncompleteSignatureException",
			"Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. " +
				"Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=BAD",
		},
		{
			"no signature", "/", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=c", "now", "IncompleteSignatureException",
			"Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=a, SignedHeaders=c",
		},
		{
			"empty credential", "/", "AWS4-HMAC-SHA256 Credential=, SignedHeaders=c, Signature=b", "now", "IncompleteSignatureException",
			"Authorization header requires 'Credential' parameter. Authorization=AWS4-HMAC-SHA256 Credential=, SignedHeaders=c, Signature=b",
		},
		{
			"divided by spaces", "/", "AWS4- Signature=b Credential=a", "now", "IncompleteSignatureException",
			"Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4- Signature=b Credential=a",
		},
		{
			"divided by commas", "/", "AWS4-,SignedHeaders=b,Credential=a", "now", "IncompleteSignatureException",
			"Authorization header requires 'Signature' parameter. Authorization=AWS4-,SignedHeaders=b,Credential=a",
		},
		{
			"divided by both", "/", "AWS4-  Signature=b ,\tSignedHeaders=a", "now", "IncompleteSignatureException",
			"Authorization header requires 'Credential' parameter. Authorization=AWS4-  Signature=b ,\tSignedHeaders=a",
		},
		{
			"the first word is the algorithm", "/", "Credential=a Signature=b SignedHeaders=c", "now", "IncompleteSignatureException",
			"Authorization header requires 'Credential' parameter. Authorization=Credential=a Signature=b SignedHeaders=c",
		},
		{
			"no date", "/", whole, "", "IncompleteSignatureException",
			"Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=" + whole,
		},
		{"only the algorithm", query("X-Amz-Algorithm"), "", "", "IncompleteSignatureException", lacks("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")},
		{"empty algorithm", "/?X-Amz-Algorithm", "", "", "IncompleteSignatureException", lacks("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")},
		{"no date in the query", query("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders"), "", "", "IncompleteSignatureException", lacks("X-Amz-Date")},
		{"whole header", "/", whole, "now", "", ""},
		{"whole header with spaces", "/", strings.ReplaceAll(whole, ",", ""), "now", "", ""},
		{"whole query", query("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"), "", "", "", ""},
	}
	strict, open := newRig(t, &kinesisapi.Options{CheckAuthorization: true}), newRig(t, nil)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			headers := []string{"Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202.ListStreams"}
			if row.authorization != "" {
				headers = append(headers, "Authorization", row.authorization)
			}
			if row.date != "" {
				headers = append(headers, "X-Amz-Date", row.date)
			}
			a := strict.send("POST", row.path, `{}`, headers...)
			if row.errorType == "" {
				require.Equal(t, 200, a.status, a.body)
			} else {
				strict.isError(a, row.errorType, row.message)
				a = strict.send("POST", row.path, `{"Limit":[]}`, headers...)
				strict.isError(a, row.errorType, row.message)
			}
			require.Equal(t, 200, open.send("POST", row.path, `{}`, headers...).status, "nobody looks")
		})
	}
	a := strict.send("POST", "/", "{}", "Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202.Nothing")
	strict.isError(a, "UnknownOperationException", "")
	a = strict.send("POST", "/", "{}", "Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202.ListStreams", "Authorization", whole, "Date", "now")
	require.Equal(t, 200, a.status, "either date does")
}

// A body larger than any valid request is refused unread.
func TestRawTooLarge(t *testing.T) {
	r := newRig(t, nil)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	const most = 16 << 20
	for name, row := range map[string]struct {
		body   io.Reader
		length int64
		status int
	}{
		"said":     {http.NoBody, most + 1, 413},
		"not said": {io.LimitReader(spaces{}, most+1), -1, 413},
		"largest":  {io.MultiReader(strings.NewReader("{}"), io.LimitReader(spaces{}, most-2)), -1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequest("POST", "http://kinesis/", row.body)
			require.NoError(t, err)
			request.ContentLength = row.length
			request.Header.Set("Content-Type", typeJSON)
			request.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
			response, err := r.client.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, row.status, response.StatusCode)
			require.Equal(t, row.status == 413, len(body) == 0)
		})
	}

	conn, err := net.Dial("tcp", listener.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: kinesis\r\nContent-Length: %d\r\n\r\n", most+1)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, 413, response.StatusCode, "before a byte of the body was sent")
	require.EqualValues(t, 0, response.ContentLength)
}

// spaces is a reader of endless white space.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A connection serves one request after another, whatever their outcome, because every
// answer has its length.
func TestRawKeepAlive(t *testing.T) {
	r := newRig(t, nil)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	conn, err := net.Dial("tcp", listener.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for _, row := range []struct {
		method, operation, body string
		status                  int
	}{
		{"POST", "ListStreams", "{}", 200},
		{"POST", "CreateStream", `{"StreamName":"s","ShardCount":1}`, 200},
		{"POST", "CreateStream", `{"StreamName":"s","ShardCount":1}`, 400},
		{"POST", "Nothing", `{}`, 400},
		{"POST", "ListStreams", ``, 400},
		{"GET", "ListStreams", ``, 403},
		{"POST", "DeleteStream", `{"StreamName":"s"}`, 200},
	} {
		_, err = fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: kinesis\r\nContent-Type: %s\r\nX-Amz-Target: Kinesis_20131202.%s\r\nContent-Length: %d\r\n\r\n%s",
			row.method, typeJSON, row.operation, len(row.body), row.body)
		require.NoError(t, err)
		response, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, row.status, response.StatusCode, "%s: %s", row.operation, body)
		require.EqualValues(t, len(body), response.ContentLength)
		require.False(t, response.Close)
		requireIDs(t, response.Header)
	}
}

// A truncated request gets no answer.
func TestRawBrokenBody(t *testing.T) {
	r := newRig(t, nil)
	request, err := http.NewRequest("POST", "http://kinesis/", io.MultiReader(strings.NewReader("{"), broken{}))
	require.NoError(t, err)
	_, err = r.client.Do(request)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
