package dynamolocal

import "strings"

// lastLines are the last of a log, as they go into an error.
func lastLines(log string) string {
	const most = 30
	var lines []string
	for line := range strings.Lines(log) {
		// It has no logger for Jetty, and says so at each start.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "SLF4J:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n\t")
}

// excerpt is a sentence of them.
func excerpt(log string) string {
	if lines := lastLines(log); lines != "" {
		return "it said:\n\t" + lines
	}
	return "it said nothing"
}
