package decrypt

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// autobahn are the cases of the Autobahn test suite (github.com/crossbario/autobahn-testsuite) that
// are run: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, and large messages in whole;
// of compression the first group in whole, and of the others, which repeat a thousand messages with
// other sizes, windows and offers, one each.
var autobahn = []string{
	"1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*",
	"12.1.*", "12.2.1", "12.3.1", "12.4.1", "12.5.1", "13.1.1", "13.2.1", "13.3.1", "13.4.1", "13.5.1", "13.6.1", "13.7.1",
}

// TestWebSocketConformance holds a server to the Autobahn cases through the gateway, run by kosoku
// (github.com/curioswitch/kosoku), whose runner is its own and whose case files are Autobahn's. The server is the
// library ws, which passes all of them by itself, so what fails is the gateway's doing: it must neither
// mend a frame that is wrong nor break one that is right, and the end of a connection has to pass as it was.
func TestWebSocketConformance(t *testing.T) {
	s := shared.open(t)
	program, args := node(t, "ws_server.js")
	const port = 8448
	said := s.server(t, port, program, args)
	name, args := python(t, "conformance.py", append([]string{mcpName, mcpName, strconv.Itoa(port), "/ok/autobahn"}, autobahn...)...)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := s.agent.Command(ctx, name, args...).CombinedOutput()
	count, failed, _ := strings.Cut(string(out), "\n")
	if n, _ := strconv.Atoi(count); err != nil || n < 300 || failed != "" {
		log, _ := os.ReadFile(said)
		t.Fatalf("%v\n%s\nthe server said:\n%s", err, out, log)
	}
	s.request(t, mcpName, "GET", "/ok/autobahn") // so the gateway has looked inside
}
