/*
 * probe: yaml
 * for: policy files
 * pkg: yaml-0.1
 * libs: 
 * debian: libyaml-dev
 * required: yes
 */
#include <yaml.h>

int
main(void)
{
	yaml_parser_t parser;

	return yaml_parser_initialize(&parser) == 0;
}
