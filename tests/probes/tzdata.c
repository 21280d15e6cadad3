/*
 * probe: tzdata
 * for: time zones of schedules in policy
 * debian: tzdata
 * required: yes
 */
#if !__has_include("/usr/share/zoneinfo/Europe/Berlin")
#error "no tz database"
#endif

int
main(void)
{
	return 0;
}
