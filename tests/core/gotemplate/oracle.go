// The real text/template, for comparison: reads {"template": ...} lines, answers {"out": ...} or {"stage", "error"}.
//
// The data and the functions are those of tests/core/gotemplate/oracle.py. Only what the standard library does is
// here: Prometheus's and Sprig's own functions appear where they are one call into it.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"text/template"
	"time"
)

type sample struct {
	Labels map[string]string
	Value  float64
}

type queryResult []*sample

type data struct {
	Labels         map[string]string
	ExternalLabels map[string]string
	ExternalURL    string
	Value          interface{}
	Any            interface{}
}

const document = `{"name": "a", "n": 3, "f": 1.5, "yes": true, "none": null, "list": [1, "two", [3], {"k": "v"}, null],
 "empty": [], "map": {"b": {"c": "deep"}, "a": 1}, "text": "h\u00e9llo", "zero": 0, "big": 1e21}`

const definitions = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"

var functions = template.FuncMap{
	"query": func(text string) (queryResult, error) {
		if text == "fail" {
			return nil, fmt.Errorf("query failed")
		}
		if text == "none" {
			return queryResult{}, nil
		}
		return queryResult{
			{map[string]string{"__name__": "up", "job": "b"}, 1},
			{map[string]string{"__name__": "up", "job": "a"}, 0.25},
		}, nil
	},
	"first": func(v queryResult) (*sample, error) {
		if len(v) > 0 {
			return v[0], nil
		}
		return nil, fmt.Errorf("first() called on vector with no elements")
	},
	"label": func(label string, s *sample) string { return s.Labels[label] },
	"value": func(s *sample) float64 { return s.Value },
	"args": func(args ...interface{}) map[string]interface{} {
		result := make(map[string]interface{})
		for i, a := range args {
			result[fmt.Sprintf("arg%d", i)] = a
		}
		return result
	},
	"toUpper":        strings.ToUpper,
	"toLower":        strings.ToLower,
	"match":          regexp.MatchString,
	"reReplaceAll":   func(p, r, t string) string { return regexp.MustCompile(p).ReplaceAllString(t, r) },
	"urlQueryEscape": url.QueryEscape,
	"urldecode":      url.QueryUnescape,
	"stripPort": func(t string) string {
		host, _, err := net.SplitHostPort(t)
		if err != nil {
			return t
		}
		return host
	},
	"stringsTitle": strings.Title,
	"replace":      func(o, n, s string) string { return strings.ReplaceAll(s, o, n) },
	"trimAll":      func(a, b string) string { return strings.Trim(b, a) },
	"TrimLeft":     strings.TrimLeft,
	"TrimRight":    strings.TrimRight,
	"trim":         strings.TrimSpace,
	"contains":     func(a, b string) bool { return strings.Contains(b, a) },
	"repeat":       func(n int, s string) string { return strings.Repeat(s, n) },
	"b64enc":       func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"fromJson": func(s string) interface{} {
		var v interface{}
		json.Unmarshal([]byte(s), &v)
		return v
	},
	"date": func(layout string, t time.Time) string { return t.Format(layout) },
	"toDateInZone": func(layout, zone, s string) time.Time {
		location, err := time.LoadLocation(zone)
		if err != nil {
			location = time.UTC
		}
		t, _ := time.ParseInLocation(layout, s, location)
		return t
	},
	"unix":       func(ns float64) time.Time { return time.Unix(0, int64(ns)).UTC() },
	"goDuration": func(s string) (time.Duration, error) { return time.ParseDuration(s) },
}

func expand(text string) map[string]string {
	parsed, err := template.New("the main template").Option("missingkey=zero").Funcs(functions).Parse(definitions + text)
	if err != nil {
		return map[string]string{"stage": "parse", "error": err.Error()}
	}
	var any interface{}
	if err := json.Unmarshal([]byte(document), &any); err != nil {
		panic(err)
	}
	var out strings.Builder
	err = parsed.Execute(&out, data{
		map[string]string{"job": "bridge", "instance": "host.example.org:9090", "empty": "", "quote": `say "hi"`, "uni": "héllo wörld", "n": "42"},
		map[string]string{"region": "eu"}, "http://prom.example/x", 2.5, any,
	})
	if err != nil {
		return map[string]string{"stage": "run", "error": err.Error()}
	}
	return map[string]string{"out": out.String()}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	answers := json.NewEncoder(os.Stdout)
	answers.SetEscapeHTML(false)
	for lines.Scan() {
		var request struct{ Template []byte }
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			panic(err)
		}
		answers.Encode(expand(string(request.Template)))
	}
}
