// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells libxtables about the target "SYNPROXY" when iptables loads the library.
 * In C because the tables are written with macros of xtables.h; what the
 * functions do is in src/lib.rs. Values are strings here: src/options.rs reads
 * them.
 */

#include <xtables.h>
#include <linux/netfilter/nf_synproxy.h>
#include <linux/netfilter/xt_SYNPROXY.h>

void synproxy_help_v0(void);
void synproxy_help_v1(void);
void synproxy_parse_v0(struct xt_option_call *cb);
void synproxy_parse_v1(struct xt_option_call *cb);
void synproxy_print(const void *ip, const struct xt_entry_target *target,
		    int numeric);
void synproxy_save(const void *ip, const struct xt_entry_target *target);

/* An option's id is the number of its bit. */
#define ID(option) __builtin_ctz(XT_SYNPROXY_OPT_ ## option)

/* How many of the options revision 0 lacks: they come first. */
#define SINCE_V1 4

/* --rate has no bit, as 0 is no rate. */
#define ID_RATE 8

static const struct xt_option_entry synproxy_opts[] = {
	{
		.name = "defer",
		.id   = ID(DEFER),
		.type = XTTYPE_NONE,
	},
	{
		.name = "window",
		.id   = ID(WINDOW),
		.type = XTTYPE_STRING,
	},
	{
		.name = "timeout",
		.id   = ID(TIMEOUT),
		.type = XTTYPE_STRING,
	},
	{
		.name = "rate",
		.id   = ID_RATE,
		.type = XTTYPE_STRING,
	},
	{
		.name = "mss",
		.id   = ID(MSS),
		.type = XTTYPE_STRING,
	},
	{
		.name = "wscale",
		.id   = ID(WSCALE),
		.type = XTTYPE_STRING,
	},
	{
		.name = "sack-perm",
		.id   = ID(SACK_PERM),
		.type = XTTYPE_NONE,
	},
	{
		.name = "timestamp",
		.id   = ID(TIMESTAMP),
		.type = XTTYPE_NONE,
	},
	{
		/* as the manual of iptables has it */
		.name = "timestamps",
		.id   = ID(TIMESTAMP),
		.type = XTTYPE_NONE,
	},
	{
		.name = "ecn",
		.id   = ID(ECN),
		.type = XTTYPE_NONE,
	},
	XTOPT_TABLEEND,
};

/*
 * libxtables takes the highest revision that the kernel has: 0 is for the
 * kernel's own module.
 *
 * There is no .xlate: the synproxy of nft is the kernel's own, and no gate.
 */
static struct xtables_target synproxy_v0 = {
	.version	= XTABLES_VERSION,
	.name		= "SYNPROXY",
	.revision	= 0,
	.family		= NFPROTO_UNSPEC,
	.size		= XT_ALIGN(sizeof(struct nf_synproxy_info)),
	.userspacesize	= XT_ALIGN(sizeof(struct nf_synproxy_info)),
	.help		= synproxy_help_v0,
	.x6_parse	= synproxy_parse_v0,
	.x6_options	= synproxy_opts + SINCE_V1,
	.print		= synproxy_print,
	.save		= synproxy_save,
};

static struct xtables_target synproxy_v1 = {
	.version	= XTABLES_VERSION,
	.name		= "SYNPROXY",
	.revision	= 1,
	.family		= NFPROTO_UNSPEC,
	.size		= XT_ALIGN(sizeof(struct xt_synproxy_info)),
	.userspacesize	= XT_ALIGN(sizeof(struct xt_synproxy_info)),
	.help		= synproxy_help_v1,
	.x6_parse	= synproxy_parse_v1,
	.x6_options	= synproxy_opts,
	.print		= synproxy_print,
	.save		= synproxy_save,
};

static void __attribute__((constructor)) synproxy_register(void)
{
	/* In the unit tests there is no iptables to tell. */
	if (!xt_params)
		return;
	xtables_register_target(&synproxy_v0);
	xtables_register_target(&synproxy_v1);
}
