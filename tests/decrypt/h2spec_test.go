package decrypt

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// deviations are the cases that the gateway does not pass, and why that is right.
var deviations = map[string]string{
	"http2/4.2 Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                          "the frame is of 20 KB, which the gateway announces that it takes",
	"http2/6.5.3 Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                            "the server of net/http ends a connection whose SETTINGS name a parameter twice",
	"http2/8.1.2.2 Sends a HEADERS frame that contains the connection-specific header field":                       "answered with 400, as RFC 9113, section 8.1.1, allows",
	"http2/8.1.2.2 Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "the same",
}

// TestH2spec has h2spec (github.com/summerwind/h2spec) hold the gateway's side of HTTP/2 to RFC 7540
// and RFC 7541, which RFC 9113 replaced in part. It is built from a module of its own, so that its
// dependencies do not become the gateway's.
func TestH2spec(t *testing.T) {
	s := shared.open(t)
	dir := t.TempDir()
	binary, report := filepath.Join(dir, "h2spec"), filepath.Join(dir, "report.xml")
	if out, err := exec.Command("go", "build", "-C", "h2spec", "-o", binary, "github.com/summerwind/h2spec/cmd/h2spec").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The server closes a connection a second after its GOAWAY, for which h2spec waits longer. It
	// ends with an error where any case failed; which ones is in the report.
	out, _ := s.run(t, binary, "-t", "-k", "-h", apiName, "-p", "8443", "-P", "/ok/h2spec", "-o", "3", "-j", report)
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var suites struct {
		Suites []struct {
			Cases []struct {
				ID      string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct {
					Text string `xml:",chardata"`
				} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &suites); err != nil {
		t.Fatal(err)
	}
	n, failed := 0, map[string]bool{}
	for _, suite := range suites.Suites {
		for _, c := range suite.Cases {
			n++
			if name := c.ID + " " + c.Name; c.Failure != nil || c.Error != nil {
				failed[name] = true
				if deviations[name] == "" {
					t.Errorf("%s: %+v", name, c.Error)
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d cases\n%s", n, out)
	}
	for name := range deviations {
		if !failed[name] {
			t.Errorf("passes, so it is no deviation any more: %s", name)
		}
	}
	s.nothingForbidden(t)
}
