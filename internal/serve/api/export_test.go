package api

import "strings"

// Routes returns the method, the path and the query parameters of each route.
func Routes() [][3]string {
	list := [][3]string{{"POST", acquirePath, ""}}
	for _, r := range routes() {
		list = append(list, [3]string{r.method, r.path, strings.ReplaceAll(strings.Join(r.query, " "), "*", "")})
	}
	return list
}
