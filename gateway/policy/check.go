package policy

// The ids of the checks. They are stable: people name them in `allow`, in pipelines
// and in reviews. docs/reference/checks.md describes each.
const (
	checkDecode = "POL-00"
)
