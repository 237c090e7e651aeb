-- Writes the end of the term to the record, then deletes the lease, then wakes the others.
-- ARGV: prefix, lease (id:number), the record of the end
local p = ARGV[1]
local told = call('GET', p .. 'record')
if told and not string.find(told, '"' .. ARGV[2] .. '"', 1, true) then
  return 'another leads'
end
call('SET', p .. 'record', ARGV[3])
if call('GET', p .. 'lease') == ARGV[2] then
  call('DEL', p .. 'lease')
end
call('PUBLISH', p .. 'news', ARGV[3])
return 'released'
