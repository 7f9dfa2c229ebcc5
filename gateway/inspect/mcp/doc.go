// Package mcp reads the messages of the Model Context Protocol: JSON-RPC 2.0 in the
// bodies of HTTP requests, and in answers as JSON or as a stream of server-sent events
// (MCP 2025-06-18, Transports, and the HTTP+SSE transport of 2024-11-05 before it).
//
// What is forwarded must be what was judged. So [Parse] takes only bodies that every JSON
// parser reads alike, and says what the evaluator has to know of each message; [Body.Refuse] answers
// in the messages' own form; [FilterJSON] and [Filter] cut lists of tools down to what
// may be called. Nothing here decides: that is asked of the ruleset.
package mcp
