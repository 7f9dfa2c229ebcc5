package audit

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// appendTo appends the event's canonical JSON (RFC 8785): members in the order of their
// names, whole numbers, no spaces. All text has been through bounded, so nothing is
// left in it that encoding/json and RFC 8785 escape differently. A test holds it to what
// encoding/json makes of the type, byte for byte.
//
// Where cut is not nil, the event's link is left out, and cut says where it belongs.
func (e *Event) appendTo(b []byte, cut *cut) []byte {
	b = appendInt(b, `{"action_id":`, int64(e.ActionID))
	b = appendInt(b, `,"activity_id":`, int64(e.ActivityID))
	for i := range e.Answers {
		b = append(b, next(i, `,"answers":[{`)...)
		b = appendText(b, `"rdata":`, e.Answers[i].Rdata)
		b = appendSome(b, `,"type":`, e.Answers[i].Type)
		b = append(b, '}')
	}
	if len(e.Answers) > 0 {
		b = append(b, ']')
	}
	b = appendInt(b, `,"category_uid":`, int64(e.CategoryUID))
	b = appendInt(b, `,"class_uid":`, int64(e.ClassUID))
	b = appendConnection(b, `,"connection_info":`, e.ConnectionInfo)
	b = appendCount(b, `,"count":`, int64(e.Count))
	b = appendInt(b, `,"disposition_id":`, int64(e.DispositionID))
	b = appendEndpoint(b, `,"dst_endpoint":`, e.DstEndpoint)
	b = appendCount(b, `,"duration":`, e.Duration)
	b = appendCount(b, `,"end_time":`, e.EndTime)
	for i := range e.Evidences {
		b = append(b, next(i, `,"evidences":[{`)...)
		from := len(b)
		b = appendConnection(b, `,"connection_info":`, e.Evidences[i].ConnectionInfo)
		b = appendEndpoint(b, `,"dst_endpoint":`, e.Evidences[i].DstEndpoint)
		b = appendEndpoint(b, `,"src_endpoint":`, e.Evidences[i].SrcEndpoint)
		b = append(first(b, from), '}')
	}
	if len(e.Evidences) > 0 {
		b = append(b, ']')
	}
	if f := e.FindingInfo; f != nil {
		b = appendInt(b, `,"finding_info":{"created_time":`, f.CreatedTime)
		b = appendText(b, `,"title":`, f.Title)
		b = appendTexts(b, `,"types":`, f.Types)
		b = appendText(b, `,"uid":`, f.UID)
		b = append(b, '}')
	}
	if e.FirewallRule != nil {
		b = appendText(b, `,"firewall_rule":{"name":`, e.FirewallRule.Name)
		b = append(b, '}')
	}
	if h := e.HTTPRequest; h != nil {
		b = append(b, `,"http_request":{`...)
		if h.HTTPMethod != "" {
			b = appendText(b, `"http_method":`, h.HTTPMethod)
			b = append(b, ',')
		}
		b = append(b, `"url":{`...)
		from := len(b)
		b = appendSome(b, `,"hostname":`, h.URL.Hostname)
		b = appendSome(b, `,"path":`, h.URL.Path)
		b = append(first(b, from), "}}"...)
	}
	if e.HTTPResponse != nil {
		b = appendInt(b, `,"http_response":{"code":`, int64(e.HTTPResponse.Code))
		b = append(b, '}')
	}
	if e.IsAlert {
		b = append(b, `,"is_alert":true`...)
	}
	b = appendSome(b, `,"message":`, e.Message)
	b = e.Metadata.appendTo(b)
	if q := e.Query; q != nil {
		b = appendText(b, `,"query":{"class":`, q.Class)
		b = appendText(b, `,"hostname":`, q.Hostname)
		b = appendSome(b, `,"type":`, q.Type)
		b = append(b, '}')
	}
	b = appendSome(b, `,"rcode":`, e.Rcode)
	if e.RcodeID != nil {
		b = appendInt(b, `,"rcode_id":`, int64(*e.RcodeID))
	}
	b = appendInt(b, `,"severity_id":`, int64(e.SeverityID))
	b = appendEndpoint(b, `,"src_endpoint":`, e.SrcEndpoint)
	b = appendCount(b, `,"start_time":`, e.StartTime)
	b = appendSome(b, `,"status_detail":`, e.StatusDetail)
	b = appendInt(b, `,"status_id":`, int64(e.StatusID))
	b = appendInt(b, `,"time":`, e.Time)
	if t := e.Traffic; t != nil {
		b = appendInt(b, `,"traffic":{"bytes":`, t.Bytes)
		b = appendInt(b, `,"bytes_in":`, t.BytesIn)
		b = appendInt(b, `,"bytes_out":`, t.BytesOut)
		b = append(b, '}')
	}
	b = appendInt(b, `,"type_uid":`, int64(e.TypeUID))
	b = e.Unmapped.appendTo(b, cut)
	return append(b, '}')
}

func (m *Metadata) appendTo(b []byte) []byte {
	b = appendText(b, `,"metadata":{"product":{"name":`, m.Product.Name)
	b = appendText(b, `,"vendor_name":`, m.Product.VendorName)
	b = appendText(b, `,"version":`, m.Product.Version)
	b = appendTexts(b, `},"profiles":`, m.Profiles)
	b = appendText(b, `,"uid":`, m.UID)
	b = appendText(b, `,"version":`, m.Version)
	return append(b, '}')
}

func (u *Unmapped) appendTo(b []byte, cut *cut) []byte {
	b = append(b, `,"unmapped":{`...)
	if s := u.Checkpoint; s != nil {
		b = appendText(b, `"checkpoint":{"fingerprint":`, s.Fingerprint)
		b = appendText(b, `,"hash_at":`, s.Hash)
		b = appendText(b, `,"kind":`, string(s.Kind))
		b = appendText(b, `,"public_key":`, s.PublicKey)
		b = strconv.AppendUint(append(b, `,"seq_at":`...), s.Seq, 10)
		b = appendText(b, `,"signature":`, s.Signature)
		b = appendInt(b, `,"time":`, s.Time)
		b = append(b, "},"...)
	}
	if cut == nil {
		b = appendText(b, `"hash":`, u.Hash)
		b = append(b, ',')
	} else {
		cut.hash = len(b)
	}
	from := len(b)
	b = appendSome(b, `,"mode":`, string(u.Mode))
	b = appendSome(b, `,"notice":`, string(u.Notice))
	if p := u.Pin; p != nil {
		b = appendText(b, `,"pin":{"answer":`, p.Answer)
		b = appendSome(b, `,"bound":`, p.Bound)
		b = appendText(b, `,"question":`, p.Question)
		b = appendInt(b, `,"time":`, p.Time)
		b = appendInt(b, `,"ttl":`, p.TTL)
		b = append(b, '}')
	}
	b = appendSome(b, `,"policy_digest":`, u.PolicyDigest)
	b = append(b, `,"prev_hash":"`...)
	b = first(b, from)
	if cut == nil {
		b = b[:len(b)-1]
		b = appendString(b, u.PrevHash)
		b = strconv.AppendUint(append(b, `,"seq":`...), u.Seq, 10)
	} else {
		cut.prev = len(b)
	}
	b = appendText(b, `,"stage":`, u.Stage)
	b = appendSome(b, `,"tier":`, string(u.Tier))
	b = appendSome(b, `,"tool":`, u.Tool)
	b = appendSome(b, `,"workload":`, u.Workload)
	if u.Would != nil {
		b = appendText(b, `,"would":{"rule":`, u.Would.Rule)
		b = appendText(b, `,"verdict":`, string(u.Would.Verdict))
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendConnection(b []byte, key string, c *ConnectionInfo) []byte {
	if c == nil {
		return b
	}
	b = append(b, key...)
	b = appendInt(b, `{"direction_id":`, int64(c.DirectionID))
	b = appendText(b, `,"protocol_name":`, c.ProtocolName)
	b = appendInt(b, `,"protocol_num":`, int64(c.ProtocolNum))
	b = appendCount(b, `,"protocol_ver_id":`, int64(c.ProtocolVerID))
	return append(b, '}')
}

func appendEndpoint(b []byte, key string, e *Endpoint) []byte {
	if e == nil {
		return b
	}
	b = append(append(b, key...), '{')
	from := len(b)
	b = appendSome(b, `,"hostname":`, e.Hostname)
	b = appendSome(b, `,"ip":`, e.IP)
	b = appendCount(b, `,"port":`, int64(e.Port))
	return append(first(b, from), '}')
}

// next is what stands before the object i of an array that begins with open.
func next(i int, open string) string {
	if i > 0 {
		return ",{"
	}
	return open
}

// first takes away the comma before an object's first member, which begins at from.
func first(b []byte, from int) []byte {
	if from == len(b) {
		return b
	}
	return append(b[:from], b[from+1:]...)
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

// appendCount leaves the member out where it is zero, appendSome where it is empty.
func appendCount(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return appendInt(b, key, n)
}

func appendSome(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(b, key, s)
}

func appendTexts(b []byte, key string, all []string) []byte {
	b = append(b, key...)
	if all == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, s := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendText(b []byte, key, s string) []byte {
	return appendString(append(b, key...), s)
}

// appendString appends s in quotes. Only what has to be escaped, or might have to be, is
// left to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(b, s)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	to := bytes.NewBuffer(b)
	enc := json.NewEncoder(to)
	enc.SetEscapeHTML(false)
	enc.Encode(s) // never fails for a string
	return bytes.TrimSuffix(to.Bytes(), []byte("\n"))
}
