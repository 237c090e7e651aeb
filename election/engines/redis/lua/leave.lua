-- Removes a worker's presence.
-- ARGV: prefix, id of the worker, the worker as JSON
local p = ARGV[1]
redis.call('ZREM', p .. 'seen', ARGV[2])
redis.call('HDEL', p .. 'workers', ARGV[2])
return redis.call('PUBLISH', p .. 'left', ARGV[3])
