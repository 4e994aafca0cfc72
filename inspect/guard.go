package inspect

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// CheckSite protects an HTTP handler for programs and people of this machine or network
// against pages of other sites in their browsers. It returns an error, whose text is for
// the client, unless
//
//   - the Host of the request is an IP address, a loopback name (localhost, or a name
//     that ends in .localhost), or one of hosts, which are names without ports. A site
//     whose name was made to resolve to this machine comes under its own name, and is
//     refused.
//   - a request of a browser comes from the same origin, according to Sec-Fetch-Site and
//     to Origin, whose host must be the Host or one of hosts. Links of other sites may
//     open a page, so the handler must not change anything by GET.
//
// Programs other than browsers send neither header, and are not refused. CheckSite does
// not check who a client is: it is no authentication. [Handler] calls it for all requests
// except probes.
func CheckSite(r *http.Request, hosts ...string) error {
	isListed := func(host string) bool {
		return slices.ContainsFunc(hosts, func(listed string) bool { return strings.EqualFold(strings.TrimSuffix(listed, "."), host) })
	}
	host := hostName(r.Host)
	if !isLocal(host) && !isListed(host) {
		return forbidden("Host", "the host %.100q is not allowed here; localhost and IP addresses are, and names that the program lists", r.Host)
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "" || site == "same-origin" || site == "none":
	case isNavigation(r):
	default:
		return forbidden("Origin", "the request comes from another site (Sec-Fetch-Site: %.100s)", site)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		from, err := url.Parse(origin)
		if err != nil || from.Host == "" || !strings.EqualFold(from.Host, r.Host) && !isListed(hostName(from.Host)) {
			return forbidden("Origin", "the request comes from another site, %.100q", origin)
		}
	}
	return nil
}

// isNavigation reports whether a browser opens a page. The site whose link it follows
// cannot read the answer.
func isNavigation(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// hostName returns the name or address in a host, with or without a port.
func hostName(hostport string) string {
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isLocal reports whether a host cannot be the name of another site.
func isLocal(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

func forbidden(kind, format string, args ...any) error {
	return &statusError{http.StatusForbidden, kind, fmt.Sprintf(format, args...)}
}
