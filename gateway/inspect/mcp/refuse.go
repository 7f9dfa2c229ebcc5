package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// CodeRefused is the error code of a refusal. JSON-RPC leaves -32000 to -32099 to
// implementations; the MCP specification and SDKs use -32000 to -32002 and -32042.
const CodeRefused = -32040

type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

type errorResponse struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Error   rpcError        `json:"error"`
}

// Refuse renders the answer to a request of which a message was refused: an error for
// each message that expects an answer, with its id, in the order of the batch. None of
// the batch goes on, so all of them are told. Data is the refusal as any HTTP request gets it. The
// result is nil where no message expects an answer.
func (b *Body) Refuse(message string, data any) ([]byte, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("render refusal: %w", err)
	}
	var out []errorResponse
	for _, m := range b.Messages {
		if m.ID != nil && m.RPC.Method != "" {
			out = append(out, errorResponse{"2.0", m.ID, rpcError{CodeRefused, message, raw}})
		}
	}
	switch {
	case len(out) == 0:
		return nil, nil
	case !b.Batch:
		return marshal(out[0])
	}
	return marshal(out)
}

// marshal writes JSON on one line, as it is, without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("render JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
