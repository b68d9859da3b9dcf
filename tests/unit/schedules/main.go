// Writes schedules with the times at which Kubernetes' CronJob controller would start Jobs: tests/unit/schedules/README.md
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"time"

	"github.com/robfig/cron/v3"
)

type vector struct {
	Schedule string   `json:"schedule"`
	TimeZone string   `json:"timeZone"`
	After    string   `json:"after"`
	Next     []string `json:"next"`
}

var (
	schedules = []string{
		"* * * * *", "*/10 * * * *", "0 */6 * * *", "30 2 * * *", "30 1,2,3 * * *", "0 0 * * *", "15 0 1 * *",
		"0 0 29 2 *", "0 12 * * mon-fri", "0 12 13 * fri", "5 4 */2 * SUN", "0 0 1 jan ?", "7/20 8-18/4 * * *",
		"59 23 31 12 *", "0 3 * * 0", "0 0 31 2 *", "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly",
		"@annually", "@every 90m", "@every 1h30m10s", "0 2 * 3,10 sun", "30 2 */1 * 0", "0-59/15 1-3 * * *",
	}
	zones = []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "America/Santiago"}
	// Around changes of the clock, the ends of months and years, and whatever else.
	moments = []string{
		"2026-03-29T00:10:00Z", "2026-10-25T00:10:00Z", "2026-03-08T06:30:00Z", "2026-11-01T05:30:00Z",
		"2027-02-28T23:59:30Z", "2026-12-31T23:00:00Z", "2026-04-04T15:30:00Z", "2026-09-06T03:30:00Z",
	}
)

func main() {
	random := rand.New(rand.NewSource(1))
	var vectors []vector
	for _, schedule := range schedules {
		for _, zone := range zones {
			for range 2 {
				after, _ := time.Parse(time.RFC3339, moments[random.Intn(len(moments))])
				parsed, err := cron.ParseStandard(fmt.Sprintf("TZ=%s %s", zone, schedule))
				if err != nil {
					panic(err)
				}
				v := vector{schedule, zone, after.Format(time.RFC3339), []string{}}
				for t := parsed.Next(after); len(v.Next) < 4 && !t.IsZero(); t = parsed.Next(t) {
					v.Next = append(v.Next, t.UTC().Format(time.RFC3339))
				}
				vectors = append(vectors, v)
			}
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	for _, v := range vectors {
		if err := encoder.Encode(v); err != nil {
			panic(err)
		}
	}
}
