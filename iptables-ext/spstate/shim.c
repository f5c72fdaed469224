// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tells libxtables about the match "spstate" when iptables loads the library.
 * In C because the table is written with macros of xtables.h; what the
 * functions do is in src/lib.rs.
 */

#include <xtables.h>
#include <linux/netfilter/xt_spstate.h>

void spstate_help(void);
void spstate_parse(struct xt_option_call *cb);
void spstate_fcheck(struct xt_fcheck_call *cb);
void spstate_print(const void *ip, const struct xt_entry_match *match,
		   int numeric);
void spstate_save(const void *ip, const struct xt_entry_match *match);

/* An option's id is the state it names. Each excludes the two others. */
#define SPSTATE_OPTION(option, state) {				\
	.name = option,						\
	.type = XTTYPE_NONE,					\
	.id = state,						\
	.excl = ((1u << XT_SPSTATE_NONE) |			\
		 (1u << XT_SPSTATE_IN_PROGRESS) |		\
		 (1u << XT_SPSTATE_FINISH)) & ~(1u << (state)),	\
	.flags = XTOPT_INVERT,					\
}

static const struct xt_option_entry spstate_opts[] = {
	SPSTATE_OPTION("none", XT_SPSTATE_NONE),
	SPSTATE_OPTION("in-progress", XT_SPSTATE_IN_PROGRESS),
	SPSTATE_OPTION("finish", XT_SPSTATE_FINISH),
	XTOPT_TABLEEND,
};

/*
 * There is no .xlate: nft has no expression for this match, and
 * iptables-translate then prints the rule as a comment.
 */
static struct xtables_match spstate_match = {
	.version	= XTABLES_VERSION,
	.name		= "spstate",
	.revision	= 0,
	.family		= NFPROTO_UNSPEC,
	.size		= XT_ALIGN(sizeof(struct xt_spstate_info)),
	.userspacesize	= XT_ALIGN(sizeof(struct xt_spstate_info)),
	.help		= spstate_help,
	.x6_parse	= spstate_parse,
	.x6_fcheck	= spstate_fcheck,
	.x6_options	= spstate_opts,
	.print		= spstate_print,
	.save		= spstate_save,
};

static void __attribute__((constructor)) spstate_register(void)
{
	/* In the unit tests there is no iptables to tell. */
	if (!xt_params)
		return;
	xtables_register_match(&spstate_match);
}
