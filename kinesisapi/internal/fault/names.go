package fault

import (
	"fmt"
	"net/http"

	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Names are those of the errors that the service answers with.
var Names = []string{
	"AccessDeniedException",
	"DryRunOperationException",
	"ExpiredIteratorException",
	"ExpiredNextTokenException",
	"ExpiredTokenException",
	"IncompleteSignatureException",
	"InternalFailure",
	"InternalFailureException",
	"InvalidArgumentException",
	"InvalidSignatureException",
	"KMSAccessDeniedException",
	"KMSDisabledException",
	"KMSInvalidStateException",
	"KMSNotFoundException",
	"KMSOptInRequired",
	"KMSThrottlingException",
	"LimitExceededException",
	"MissingAuthenticationTokenException",
	"ProvisionedThroughputExceededException",
	"ResourceInUseException",
	"ResourceNotFoundException",
	"SerializationException",
	"ServiceUnavailable",
	"ThrottlingException",
	"UnknownOperationException",
	"UnrecognizedClientException",
	"ValidationException",
}

// Named returns the error of the service with that name, such as
// "ProvisionedThroughputExceededException", and a text; an empty text is one that
// says that the failure was ordered. InternalFailure and ServiceUnavailable are
// failures of the server, which clients try again.
func Named(name, text string) *service.Error {
	e := &service.Error{Type: name, Message: text, Status: http.StatusBadRequest}
	switch name {
	case "InternalFailure", "InternalFailureException":
		e.Status = http.StatusInternalServerError
	case "ServiceUnavailable":
		e.Status = http.StatusServiceUnavailable
	}
	if text == "" {
		e.Message = fmt.Sprintf("This %s was ordered by a test.", name)
	}
	return e
}
