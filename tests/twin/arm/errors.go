package arm

import (
	"errors"
	"fmt"
)

// Error is a refusal as Azure words it.
type Error struct {
	Status  int
	Code    string
	Message string
	// Accepted says that Azure took the request and failed afterwards: the resource is there,
	// in the state Failed.
	Accepted bool
}

func (e *Error) Error() string {
	return fmt.Sprintf("Status=%d Code=%q Message=%q", e.Status, e.Code, e.Message)
}

func failure(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Code is the code of Azure's error in err, or empty.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// NotFound says whether Azure answered 404.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == 404
}

func notFound(id ID) *Error {
	if id.Type == typeGroup {
		return failure(404, "ResourceGroupNotFound", "Resource group '%s' could not be found.", id.Name())
	}
	return failure(404, "ResourceNotFound", "The Resource '%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", nested(id), id.Group())
}

// nested is a resource's type and name as messages have it: Microsoft.Network/virtualNetworks/v/subnets/s.
func nested(id ID) string { return id.text[len(id.scope)+len("/providers/"):] }

func unknownReference(from ID, to string) *Error {
	return failure(400, "InvalidResourceReference", "Resource %s referenced by resource %s was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.", to, from)
}
