-- Jobs with larger ids, after job_index.lua.
-- ARGV: prefix, id, how many
check_indexes()
return each(call('ZRANGEBYLEX', p .. 'ids', '(' .. ARGV[2], '+', 'LIMIT', 0, ARGV[3]), p .. 'job:')
