package server

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// caller returns the account and region of a request, as far as its credential scope has
// them. An access key of 12 digits is an account.
func (s *Server) caller(r *http.Request) service.Caller {
	c := service.Caller{Account: s.opts.Account, Region: s.opts.Region}
	if !s.opts.SeparateAccounts {
		return c
	}
	scope := strings.Split(credential(r), "/") // key/date/region/service/aws4_request
	if len(scope) < 3 {
		return c
	}
	if isAccount.MatchString(scope[0]) {
		c.Account = scope[0]
	}
	if isRegion.MatchString(scope[2]) {
		c.Region = scope[2]
	}
	return c
}

var (
	isAccount = regexp.MustCompile(`^\d{12}$`)
	isRegion  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// credential returns the credential of the request's signature, from a header or the query.
func credential(r *http.Request) string {
	if header := r.Header.Get("Authorization"); header != "" {
		return authorizationParameters(header)["Credential"]
	}
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get("X-Amz-Credential")
}

// authorizationParameters parses an Authorization header: the algorithm, then parameters
// that commas, white space or both separate.
func authorizationParameters(header string) map[string]string {
	parameters := make(map[string]string, 3)
	parts := strings.FieldsFunc(header, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	for i, part := range parts {
		if name, value, ok := strings.Cut(part, "="); i > 0 && ok && value != "" {
			parameters[name] = value
		}
	}
	return parameters
}

// checkAuthorization returns the error for a request that lacks a part of a signature. The
// signature itself is not verified, because the server knows no secrets.
func checkAuthorization(r *http.Request) *service.Error {
	fail := func(errorType, message string) *service.Error {
		return &service.Error{Type: errorType, Message: message, Status: http.StatusBadRequest}
	}
	header, query := r.Header.Get("Authorization"), r.URL.Query()
	inQuery := query.Has("X-Amz-Algorithm")
	switch {
	case header != "" && inQuery:
		return fail("InvalidSignatureException", "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case header == "" && !inQuery:
		return fail("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	var message strings.Builder
	if inQuery {
		for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
			if query.Get(name) == "" {
				message.WriteString("AWS query-string parameters must include '" + name + "'. ")
			}
		}
		if message.Len() > 0 {
			message.WriteString("Re-examine the query-string parameters.")
		}
	} else {
		parameters := authorizationParameters(header)
		for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
			if parameters[name] == "" {
				message.WriteString("Authorization header requires '" + name + "' parameter. ")
			}
		}
		if r.Header.Get("X-Amz-Date") == "" && r.Header.Get("Date") == "" {
			message.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
		}
		if message.Len() > 0 {
			message.WriteString("Authorization=" + header)
		}
	}
	if message.Len() == 0 {
		return nil
	}
	return fail("IncompleteSignatureException", message.String())
}
