package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// refuse says why what is there does not allow what is asked for.
func refuse(s settings, st state) error {
	errs := []error{st.refuseStack(s.globalStack(), st.home, st.global), st.refuseTable(s), st.refuseKey(s), st.refuseRemove(s), st.refuseZone(s)}
	for _, region := range s.touched() {
		r := st.regions[region]
		errs = append(errs, st.refuseStack(s.regionStack(), region, r.stack))
		if region == s.remove {
			continue
		}
		errs = append(errs, st.refuseRootKey(region))
		if r.stack == "" && r.views {
			errs = append(errs, fmt.Errorf("%s has a table %s but no stack %s: it is left from before, and lacks what happened since. "+
				"If nobody needs it, delete it and run this again:\n  %s\n  %s", region, s.viewsTable(), s.regionStack(),
				line(unprotect(s.viewsTable(), region)), line(deleteTable(s.viewsTable(), region))))
		}
		if r.noTopic {
			errs = append(errs, fmt.Errorf("-alarm-topic: %s has no topic %s. Make it, and subscribe whoever should hear of alarms:\n  %s", region, s.alarmTopic,
				line([]string{"sns", "create-topic", "--region", region, "--name", s.alarmTopic})))
		}
	}
	return errors.Join(errs...)
}

func unprotect(table, region string) []string {
	return []string{"dynamodb", "update-table", "--region", region, "--table-name", table, "--no-deletion-protection-enabled"}
}

func deleteTable(table, region string) []string {
	return []string{"dynamodb", "delete-table", "--region", region, "--table-name", table}
}

// refuseStack says why a stack cannot be deployed now.
func (st state) refuseStack(stack, region, status string) error {
	on := []string{"--region", region, "--stack-name", stack}
	switch {
	case strings.HasSuffix(status, "_IN_PROGRESS"):
		return fmt.Errorf("%s: the stack %s is being changed (%s). Wait until that is over, and run this again", region, stack, status)
	case status == "ROLLBACK_COMPLETE", status == "ROLLBACK_FAILED", status == "CREATE_FAILED", status == "DELETE_FAILED":
		return fmt.Errorf("%s: the stack %s could not be made (%s). See why, delete it, and run this again; tables stay:\n  %s\n  %s", region, stack, status,
			line(append([]string{"cloudformation", "describe-stack-events"}, on...)), line(append([]string{"cloudformation", "delete-stack"}, on...)))
	case status == "UPDATE_ROLLBACK_FAILED":
		return fmt.Errorf("%s: the stack %s is stuck (%s). See why, let it go on, and run this again:\n  %s\n  %s", region, stack, status,
			line(append([]string{"cloudformation", "describe-stack-events"}, on...)), line(append([]string{"cloudformation", "continue-update-rollback"}, on...)))
	}
	return nil
}

func (st state) refuseTable(s settings) error {
	if st.left != "" {
		return fmt.Errorf("%s has a table %s, but its stack %s is in none of the -regions. Name the region it is in, too. "+
			"If it is in none, the table is left from before: delete it if nobody needs it, or choose another -stage", st.leftIn, st.left, s.globalStack())
	}
	if len(st.replicas) == 0 {
		return nil
	}
	if s.strong != st.strong {
		has := map[bool]string{false: "eventual", true: "strong"}[st.strong]
		return fmt.Errorf("-consistency: the table %s was made with %s consistency, and keeps it; give -consistency %s, or choose another -stage", s.eventsTable(), has, has)
	}
	if st.strong {
		for _, region := range s.regions {
			if !slices.Contains(st.replicas, region) {
				return fmt.Errorf("-regions: a table with strong consistency keeps its three regions, %s; %s is none of them", strings.Join(st.replicas, ", "), region)
			}
		}
	}
	return nil
}

func (st state) refuseRemove(s settings) error {
	switch {
	case s.remove == "":
		return nil
	case s.remove == st.home:
		return fmt.Errorf("-remove: %s holds the stack of the log, %s, and cannot be removed", s.remove, s.globalStack())
	case !slices.Contains(st.replicas, s.remove) && st.regions[s.remove].stack == "":
		return fmt.Errorf("-remove: there is no Parley %s in %s; it is in %s", s.stage, s.remove, strings.Join(st.replicas, ", "))
	}
	return nil
}

func (st state) refuseZone(s settings) error {
	if s.zone == "" {
		return nil
	}
	zone := strings.TrimSuffix(st.zoneName, ".")
	if zone == "" {
		return fmt.Errorf("-zone: this account has no hosted zone %s; `aws route53 list-hosted-zones` shows those it has", s.zone)
	}
	for _, named := range [][2]string{{"-domain", s.domain}, {"-live-domain", s.liveDomain}} {
		if flag, domain := named[0], named[1]; domain != zone && !strings.HasSuffix(domain, "."+zone) {
			return fmt.Errorf("%s: %s does not lie in the hosted zone %s, which is %s", flag, domain, s.zone, zone)
		}
	}
	return nil
}
