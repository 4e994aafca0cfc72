package fault

import (
	"fmt"
	"net/http"

	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Names are the names of the service's errors.
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
// "ProvisionedThroughputExceededException", and a text. If the text is empty, it says that
// a test ordered the error. InternalFailure and ServiceUnavailable are failures of the
// server, which clients retry.
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
