package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/hello"
)

var (
	testOrigin = netip.MustParsePrefix("45.101.0.0/16")
	testAgents = []netip.Addr{netip.MustParseAddr("10.101.128.1"), netip.MustParseAddr("10.101.128.2")}
)

func TestHello(t *testing.T) {
	for name := range services {
		msg, err := Hello(name)
		if err != nil {
			t.Fatal(err)
		}
		var s hello.Scanner
		info, done, err := s.Scan(msg)
		if err != nil || !done || info.Name != name {
			t.Errorf("%s: read as %+v (whole: %v, error: %v)", name, info, done, err)
		}
	}
}

func TestAddrs(t *testing.T) {
	want := []string{"45.101.2.1", "45.101.2.2", "45.101.2.3", "45.101.2.4"}
	var got []string
	for _, a := range Addrs(testOrigin, RawName) {
		got = append(got, a.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"elsewhere." + Domain, "a.b." + WebName, "com", ""} {
		if got := Addrs(testOrigin, name); got != nil {
			t.Errorf("%q, a name without a service, has addresses %v", name, got)
		}
	}
	if diff := cmp.Diff(Addrs(testOrigin, WebName), Addrs(testOrigin, "any."+WebName), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("below a service: %s", diff)
	}
}

// TestPairs holds that every combination of source and target comes up.
func TestPairs(t *testing.T) {
	job := Job{Sources: testAgents, Targets: Addrs(testOrigin, RawName)}
	seen := map[[2]netip.Addr]bool{}
	for n := range len(job.Sources) * len(job.Targets) {
		src, dst := job.pair(n)
		seen[[2]netip.Addr{src, dst.Addr()}] = true
	}
	if len(seen) != len(job.Sources)*len(job.Targets) {
		t.Errorf("%d combinations", len(seen))
	}
}

func TestSummarize(t *testing.T) {
	var one, two tally
	for i := range 100 {
		one.took = append(one.took, time.Duration(i+1)*time.Millisecond)
		two.took = append(two.took, time.Duration(i+101)*time.Millisecond)
	}
	two.fail(errors.New("the first"))
	two.fail(errors.New("the second"))
	want := Result{Count: 200, Errors: 2, Why: "the first", Elapsed: time.Second,
		P50: 101 * time.Millisecond, P99: 199 * time.Millisecond, Max: 200 * time.Millisecond}
	if diff := cmp.Diff(want, summarize([]tally{one, two}, time.Second)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Result{}, summarize(nil, 0)); diff != "" {
		t.Errorf("nothing: %s", diff)
	}
}

func TestAnswerQuestion(t *testing.T) {
	known := map[string][]netip.Addr{string(packName(RawName)): Addrs(testOrigin, RawName), string(packName(WebName)): Addrs(testOrigin, WebName)}
	for _, tt := range []struct {
		name    string
		qtype   uint16
		answers int
	}{
		{RawName, dns.TypeA, Targets},
		{RawName, dns.TypeAAAA, 0},
		{"m1-2f.dns." + Domain, dns.TypeA, 1},
		{"f1-2f." + WebName, dns.TypeA, Targets},
		{".", dns.TypeA, 1},
	} {
		q := new(dns.Msg).SetQuestion(dns.Fqdn(tt.name), tt.qtype)
		q.SetEdns0(1232, false)
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1500)
		var m dns.Msg
		if err := m.Unpack(answerQuestion(buf, copy(buf, wire), known)); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if m.Id != q.Id || !m.Response || m.Rcode != dns.RcodeSuccess || len(m.Answer) != tt.answers || m.Question[0] != q.Question[0] {
			t.Errorf("%s: answered with\n%v", tt.name, &m)
		}
	}
}

func TestAnswerQuestionRefuses(t *testing.T) {
	header := func(flags byte, questions uint16) []byte {
		b := make([]byte, headerSize)
		b[2] = flags
		binary.BigEndian.PutUint16(b[4:], questions)
		return b
	}
	for name, msg := range map[string][]byte{
		"short":       {1, 2, 3},
		"an answer":   header(0x80, 1),
		"two":         header(0, 2),
		"no name":     header(0, 1),
		"cut label":   append(header(0, 1), 63, 'a'),
		"a pointer":   append(header(0, 1), 0xc0, 12, 0, 1, 0, 1),
		"without end": append(header(0, 1), 1, 'a', 0, 0),
	} {
		buf := make([]byte, 1500)
		if got := answerQuestion(buf, copy(buf, msg), nil); got != nil {
			t.Errorf("%s: answered %x", name, got)
		}
	}
}

// TestTraffic does every kind of job against a real origin.
func TestTraffic(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	go func() { served <- Serve(ctx, []netip.Prefix{testOrigin}, cert) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	base := Job{Sources: testAgents, Port: NamePort, Workers: 2, Duration: 200 * time.Millisecond, Resolver: Nameserver(testOrigin)}
	at := func(kind Kind, name string, change func(*Job)) Job {
		j := base
		j.Kind, j.Name, j.Targets = kind, name, Addrs(testOrigin, name)
		if change != nil {
			change(&j)
		}
		return j
	}
	repeated := Questions{Base: testAgents[0], Sources: 10, Each: 5, Names: 7, Below: "dns." + Domain, Limit: 500}
	fresh := Questions{Base: testAgents[0], Sources: 10, Each: 5, Tag: "m", Below: "dns." + Domain, Limit: 500}
	names := Questions{Base: testAgents[0], Sources: 10, Each: 5, Tag: "f", Below: WebName, Limit: 50}
	http2 := func(j *Job) { j.HTTP2 = true }
	jobs := []struct {
		job   Job
		count func(Result) bool
	}{
		{at(First, RawName, func(j *Job) { j.Duration = 10 * time.Second }), func(r Result) bool { return r.Count == 1 && !r.At.IsZero() }},
		{at(Resolve, RawName, nil), func(r Result) bool { return r.Count == len(testAgents) }},
		{at(TLS, TLSName, nil), func(r Result) bool { return r.Count > 0 && r.P50 > 0 && r.P99 >= r.P50 && r.Max >= r.P99 }},
		{at(Raw, RawName, nil), func(r Result) bool { return r.Count > 0 && r.P50 > 0 }},
		{at(Raw, RawName, func(j *Job) { j.Port = AddressPort }), func(r Result) bool { return r.Count > 0 }},
		{at(Bulk, BulkName, nil), func(r Result) bool { return r.Count == 2 && r.Bytes > bulkSize }},
		{at(Hold, RawName, func(j *Job) { j.Count, j.Workers = 21, 4 }), func(r Result) bool { return r.Count == 21 }},
		{at(Drop, RawName, nil), func(r Result) bool { return r.Count == 21 }},
		{at(DNS, "", func(j *Job) { j.Questions, j.Duration = &repeated, 30*time.Second }), func(r Result) bool { return r.Count == 500 }},
		{at(DNS, "", func(j *Job) { j.Questions, j.Duration = &fresh, 30*time.Second }), func(r Result) bool { return r.Count == 500 }},
		{at(Handshakes, WebName, nil), func(r Result) bool { return r.Count > 0 && r.P50 > 0 && r.Issuer == TLSName }},
		{at(Handshakes, WebName, func(j *Job) { j.Questions, j.Duration = &names, 30*time.Second }), func(r Result) bool { return r.Count == 50 }},
		{at(Requests, "cached."+WebName, nil), func(r Result) bool { return r.Count > 0 && r.P50 > 0 }},
		{at(Requests, "cached."+WebName, http2), func(r Result) bool { return r.Count > 0 && r.P50 > 0 }},
		{at(Download, WebName, nil), func(r Result) bool { return r.Count == 2 && r.Bytes > 0 }},
		{at(Download, WebName, http2), func(r Result) bool { return r.Count == 2 && r.Bytes > 0 }},
		{at(HoldWeb, WebName, func(j *Job) { j.Count = 20 }), func(r Result) bool { return r.Count == 20 }},
		{at(Drop, WebName, nil), func(r Result) bool { return r.Count == 20 }},
	}
	var in, out bytes.Buffer
	for _, j := range jobs {
		if err := json.NewEncoder(&in).Encode(j.job); err != nil {
			t.Fatal(err)
		}
	}
	if err := Work(&in, &out); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(&out)
	for _, j := range jobs {
		var r Result
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if j.job.Kind == First {
			r.Errors = 0 // tries before the origin listened
		}
		if r.Error != "" || r.Errors > 0 || !j.count(r) {
			t.Errorf("%s %s: %+v", j.job.Kind, j.job.Name, r)
		}
	}
	if err := dec.Decode(new(Result)); err != io.EOF {
		t.Errorf("more results than jobs: %v", err)
	}
}

func TestBadJobs(t *testing.T) {
	in := bytes.NewBufferString(`{"kind":"dance","sources":["10.101.128.1"]}` + "\n" + `{"kind":"raw"}` + "\n" + `{"kind":"dns"}` + "\n" +
		`{"kind":"requests","sources":["10.101.128.1"]}` + "\n" + `{"kind":"handshakes","sources":["10.101.128.1"],"questions":{}}` + "\n")
	var out bytes.Buffer
	if err := Work(in, &out); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(&out)
	for range 5 {
		var r Result
		if err := dec.Decode(&r); err != nil || r.Error == "" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
