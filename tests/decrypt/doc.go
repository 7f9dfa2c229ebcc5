// Package decrypt holds the lab's gateway to what real clients and servers do on decrypted
// flows: the stacks that agents are written with, through a gateway that ends their
// TLS, to origins in the lab's internet. What a rule refuses is judged at the far side: by
// the requests that arrived there.
package decrypt
